public import Foundation

/// Opens a published model: a folder as Hugging Face has it, or a GGUF file, told apart by what is there.
///
/// Throws `ModelError` naming the path, or the culprit inside it.
public func openCheckpoint(at url: URL) throws -> any TensorSource {
  var isFolder: ObjCBool = false
  guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
    throw ModelError(url.path, reason: "no such file or folder")
  }
  if isFolder.boolValue {
    guard FileManager.default.fileExists(atPath: url.appendingPathComponent("config.json").path) else {
      let isAdapter = FileManager.default.fileExists(atPath: url.appendingPathComponent("adapter_config.json").path)
      throw ModelError(
        url.path, reason: isAdapter ? "is a LoRA adapter, not a model" : "has no config.json, so is no model's folder")
    }
    return try HuggingFaceSource(url)
  }
  let file = try MappedFile(url)
  guard file.count >= 4, try file.read(offset: 0, count: 4) == GGUFFile.magic else {
    throw ModelError(url.path, reason: "is not a GGUF file; of a Hugging Face model, name the folder")
  }
  return try GGUFSource(url)
}

/// Where the tokenizer of a model is, whose weights need not be there.
/// - Parameter url: a GGUF file, or a folder with tokenizer.json
/// - Throws: `ModelError` naming the path
public func openTokenizer(at url: URL) throws -> TokenizerSource {
  let file = url.appending(path: "tokenizer.json")
  return FileManager.default.fileExists(atPath: file.path) ? .huggingFace(url) : try openCheckpoint(at: url).tokenizer
}
