import Formats
import Foundation

/// The Hugging Face folder that a model is written from: its tensors as they are stored, and its other files.
struct SourceFolder {
  let url: URL
  /// The same folder, checked.
  let model: HuggingFaceModel
  let weights: SafetensorsFolder

  private static let configuration = "config.json"
  private static let sizeLimit = 64 << 20
  /// The files that a copy of the model needs beside its weights and its configuration.
  private static let copied: Set<String> = [
    "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json",
  ]
  /// How the names of licences begin, which go with every copy.
  private static let licences = ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"]

  /// - Throws: `ModelError` naming what is wrong with the folder, or why its weights are not the original ones
  init(_ url: URL) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), isFolder.boolValue else {
      throw ModelError(url.path, reason: "is no folder; give the Hugging Face folder of the original weights")
    }
    self.url = url
    let text = try Self.fields(url)
    if let value = text.object["quantization_config"], !value.isNull {
      throw ModelError(
        Self.configuration, "quantization_config", reason: "the weights are quantised; give the original ones")
    }
    model = try HuggingFaceModel(url)
    weights = try SafetensorsFolder(url)
  }

  private static func fields(_ url: URL) throws -> HuggingFaceFields {
    try HuggingFaceFields(url.appending(path: configuration), limit: sizeLimit)
  }

  /// What the language model's own class calls a tensor; of a tensor for images, its name.
  func textName(_ name: String) -> String {
    model.isMultimodal ? MultimodalNames.textName(name) ?? name : name
  }

  /// A tensor as it is stored. A head that the folder does not have is the embedding.
  func tensor(_ name: String) -> SafetensorsFile.Tensor? {
    weights.tensor(name) ?? (name == WeightMerge.head ? weights.tensor(WeightMerge.embedding) : nil)
  }

  /// Reads rows of a tensor as they are stored.
  func read(_ entry: SafetensorsWriter.Entry, rows: Range<Int>, into values: UnsafeMutableBufferPointer<Float>) throws {
    guard let name = tensor(entry.name)?.name, let file = weights.file(of: name) else {
      throw ModelError(weights.subject(entry.name), entry.name, reason: "missing")
    }
    let columns = entry.shape.last ?? 1
    try file.readFloats(name, range: rows.lowerBound * columns..<rows.upperBound * columns, into: values)
  }

  /// Writes the files beside the weights: the configuration, the tokenizer's files and licences.
  /// - Parameters:
  ///   - type: the number format of the weights; `nil` to leave what the configuration says
  ///   - quantization: the configuration's `quantization_config`, if the weights are quantised
  ///   - untiesHead: whether the weights have a head that is not the embedding
  func copyOthers(
    to folder: AtomicFolder, type: SafetensorsType?, quantization: JSONValue? = nil, untiesHead: Bool = false
  ) throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
    where Self.copied.contains(name) || Self.licences.contains(where: { name.hasPrefix($0) }) {
      try folder.copy(url.appending(path: name))
    }
    var pairs = try Self.fields(url).object.pairs.filter { $0.key != "quantization_config" }
    if let type {
      let name: JSONValue = type == .bf16 ? "bfloat16" : type == .f16 ? "float16" : "float32"
      let keys = ["dtype", "torch_dtype"]
      for index in pairs.indices where keys.contains(pairs[index].key) { pairs[index].value = name }
      if !pairs.contains(where: { keys.contains($0.key) }) { pairs.append((key: "torch_dtype", value: name)) }
    }
    if untiesHead {
      pairs.removeAll { $0.key == "tie_word_embeddings" }
      pairs.append((key: "tie_word_embeddings", value: false))
    }
    if let quantization { pairs.append((key: "quantization_config", value: quantization)) }
    let text = JSONValue.object(JSONObject(keepingFirst: pairs)).encoded
    try AtomicFile.write(text, to: folder.file(Self.configuration))
  }
}
