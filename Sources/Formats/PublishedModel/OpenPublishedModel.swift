public import Foundation

/// Opens a published model: a folder in Hugging Face's form, or a GGUF file.
/// - Throws: `ModelError` naming the path, or the file, field or tensor that is wrong
public func openPublishedModel(at url: URL) throws -> any PublishedModel {
  var isFolder: ObjCBool = false
  guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
    throw ModelError(url.path, reason: "no such file or folder")
  }
  if isFolder.boolValue {
    try checkModelFolder(url)
    return try HuggingFaceModel(url)
  }
  let file = try MappedFile(url)
  guard file.count >= 4, try file.read(offset: 0, count: 4) == GGUFFile.magic else {
    throw ModelError(url.path, reason: "is not a GGUF file" + advice(on: url.lastPathComponent))
  }
  return try GGUFModel(url)
}

private func advice(on fileName: String) -> String {
  fileName.hasSuffix(".bin") || fileName.hasSuffix(".pth") || fileName.hasSuffix(".pt")
    ? ": PyTorch's pickle files are not read; convert the model to safetensors"
    : "; of a Hugging Face model, name the folder"
}

/// - Throws: `ModelError` for a folder that holds no model, and for one in which transformers would load an adapter too
private func checkModelFolder(_ url: URL) throws {
  let names = Set(try FileManager.default.contentsOfDirectory(atPath: url.path))
  let isAdapter = names.contains("adapter_config.json")
  guard names.contains("config.json") else {
    if isAdapter { throw ModelError(url.path, reason: "is a LoRA adapter, not a model") }
    if let file = names.sorted().first(where: { $0.hasSuffix(".gguf") }) {
      throw ModelError(url.path, reason: "has no config.json; of a GGUF model, name the file: \(file)")
    }
    throw ModelError(url.path, reason: "has no config.json, so is no model's folder")
  }
  if isAdapter {
    throw ModelError(
      "adapter_config.json",
      reason: "an adapter lies in the model's folder, where transformers would apply it; give it a folder of its own")
  }
}

/// Reads a model's configuration. The weights of a model in Hugging Face's form need not be there.
/// - Parameter url: a GGUF file, a folder with config.json, or that file
/// - Returns: the configuration, and how each projection's weight is stored
/// - Throws: `ModelError` naming the path, or the file, field or tensor that is wrong
public func openConfiguration(
  at url: URL
) throws -> (config: ModelConfig, storage: @Sendable (String) -> WeightStorage) {
  let folder = url.lastPathComponent == "config.json" ? url.deletingLastPathComponent() : url
  let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
  if names.contains("config.json"), !names.contains(where: { $0.hasSuffix(".safetensors") }) {
    let description = try HuggingFaceConfig(folder)
    let storage: WeightStorage = description.quantization.isNF4 ? .nf4(blockSize: 64) : .plain
    return (description.model, { _ in storage })
  }
  let source = try openPublishedModel(at: folder)
  return (source.config, { source.storage(of: $0) })
}

/// Finds what a model's tokenizer is built from. The model's weights need not be there.
/// - Parameter url: a GGUF file, or a folder with tokenizer.json, tekken.json or tokenizer.model
/// - Throws: `ModelError` naming the path
public func openTokenizer(at url: URL) throws -> TokenizerSource {
  for file in HuggingFaceModel.vocabularyFiles
  where FileManager.default.fileExists(atPath: url.appending(path: file).path) { return .huggingFace(url) }
  var isFolder: ObjCBool = false
  // A GGUF file that has the vocabulary alone is no model.
  if FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), !isFolder.boolValue {
    let file = try MappedFile(url)
    if file.count >= 4, try file.read(offset: 0, count: 4) == GGUFFile.magic {
      return .gguf(try GGUFMetadata(try GGUFShards(url)).vocabulary())
    }
  }
  return try openPublishedModel(at: url).tokenizer
}

/// The stem of a model's file or folder: "NAME" of NAME.gguf, of NAME-00001-of-00003.gguf and of a folder NAME.
public func modelStem(of url: URL) -> String {
  let name = url.lastPathComponent
  guard name.hasSuffix(".gguf") else { return name }
  let count = name.dropLast(".gguf".count).suffix(5)
  return Int(count).flatMap { GGUFShards.stem(name, count: $0) } ?? String(name.dropLast(".gguf".count))
}
