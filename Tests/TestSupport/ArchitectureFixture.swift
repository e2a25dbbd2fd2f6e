public import Formats
public import Foundation
public import Kernels
public import Model

/// A small random model of one of transformers' classes, with what transformers and PEFT compute for it
/// (scripts/fixtures/architecture_fixtures.py). Its weights are drawn from the names of its tensors.
public final class ArchitectureFixture {
  private struct Description: Decodable {
    struct GGUF: Decodable {
      var metadata: [String: [MetadataPart]]
      var tensors: [[TensorPart]]
    }

    var tokens: [Int32]
    var norm_shift: Float
    var use_dora: Bool
    var context: Int?
    var tensors: [String: [Int]]
    var adapter: [String: [Int]]
    var gguf: GGUF?
  }

  /// A type or a value.
  private enum MetadataPart: Decodable {
    case text(String)
    case number(Double)
    case flag(Bool)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let flag = try? container.decode(Bool.self) {
        self = .flag(flag)
      } else if let number = try? container.decode(Double.self) {
        self = .number(number)
      } else {
        self = .text(try container.decode(String.self))
      }
    }
  }

  /// A name, what the converter did, or values; `nil` for a tensor that is no weight.
  private enum TensorPart: Decodable {
    case text(String)
    case numbers([Float])
    case none

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if container.decodeNil() {
        self = .none
      } else if let numbers = try? container.decode([Float].self) {
        self = .numbers(numbers)
      } else {
        self = .text(try container.decode(String.self))
      }
    }
  }

  public static let names = [
    "llama-biases", "llama3", "llama-yarn", "llama-dynamic", "mistral", "ministral", "qwen2", "qwen2-windows", "qwen3",
    "smollm3", "granite", "phi3", "phi3-short", "phi3-long", "olmo2", "gemma2", "gemma2-scalar", "gemma3",
  ]

  /// Models for images and texts.
  public static let multimodalNames = ["gemma3-images", "mistral3-images", "llava-images"]

  /// Those that llama.cpp's converter can express.
  public static let ggufNames = names.filter {
    !["llama-dynamic", "mistral", "ministral", "qwen2-windows", "gemma2-scalar"].contains($0)
  }

  /// Holds the model, the adapter and what is prepared.
  public let root: URL
  public let tokens: [Int32]
  /// The context that transformers' frequencies are for; `nil` for the model's own.
  public let contextLength: Int?
  public let usesDoRA: Bool
  /// "logits" and "adapted", [tokens, vocabulary], and the adapter's gradients under PEFT's names.
  public let expected: SafetensorsFile
  private let description: Description

  /// Hugging Face's names of the weights.
  public var tensorNames: [String] { description.tensors.keys.sorted() }
  public var folder: URL { root.appending(path: "model") }
  public var adapter: URL { root.appending(path: "adapter") }
  public var store: BaseStore { BaseStore(dataFolder: root.appending(path: "data")) }

  public init(_ name: String) throws {
    let fixture = modelFixture("architectures/\(name)")
    description = try JSONDecoder().decode(
      Description.self, from: Data(contentsOf: fixture.appending(path: "description.json")))
    (tokens, contextLength, usesDoRA) = (description.tokens, description.context, description.use_dora)
    expected = try SafetensorsFile(fixture.appending(path: "expected.safetensors"))
    root = FileManager.default.temporaryDirectory.appending(path: "graft-\(UUID().uuidString)")
    for folder in [folder, adapter] {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }
    try Data(contentsOf: fixture.appending(path: "config.json")).write(to: folder.appending(path: "config.json"))
    try TinyTokenizer.write(to: folder)
    try SafetensorsWriter.write(
      description.tensors.map { ($0.key, $0.value, weight($0.key)) },
      to: folder.appending(path: "model.safetensors"))
    try writeAdapter()
  }

  deinit { try? FileManager.default.removeItem(at: root) }

  public func source() throws -> any PublishedModel { try openPublishedModel(at: folder) }

  public func base(_ source: any PublishedModel, _ mode: ComputeMode = .f32) throws -> Base {
    try store.open(source, mode: mode, pool: ThreadPool(threads: 1)).base
  }

  /// The model as llama.cpp's converter writes it.
  /// - Parameter changes: values that replace, or come to, those of the metadata
  public func writeGGUF(_ changes: [String: GGUFBytes.Value] = [:]) throws -> URL {
    guard let gguf = description.gguf else { throw ModelError("fixture", reason: "has no GGUF") }
    let vocabulary = description.tensors["model.embed_tokens.weight"]?[0] ?? 0
    var metadata: [(key: String, value: GGUFBytes.Value)] = gguf.metadata.sorted { $0.key < $1.key }.compactMap {
      key, parts in
      guard parts.count == 2, case .text(let type) = parts[0] else { return nil }
      switch parts[1] {
      case .text(let text): return (key, .string(text))
      case .flag(let flag): return (key, .bool(flag))
      case .number(let number): return (key, type == "float32" ? .float(Float(number)) : .integer(UInt32(number)))
      }
    }
    metadata += [
      ("tokenizer.ggml.model", .string("gpt2")), ("tokenizer.ggml.pre", .string("gpt-2")),
      ("tokenizer.ggml.tokens", .strings((0..<vocabulary).map { $0 == 2 ? "<end>" : "t\($0)" })),
      ("tokenizer.ggml.token_type", .integers((0..<vocabulary).map { $0 == 2 ? 3 : 1 })),
      ("tokenizer.ggml.merges", .strings(["t 1"])), ("tokenizer.ggml.eos_token_id", .integer(2)),
    ]
    metadata = metadata.filter { changes[$0.key] == nil } + changes.map { ($0.key, $0.value) }
    let tensors = gguf.tensors.compactMap { parts -> (name: String, shape: [Int], values: [Float])? in
      guard parts.count == 3, case .text(let name) = parts[0] else { return nil }
      if case .numbers(let numbers) = parts[2] { return (name, [numbers.count], numbers) }
      guard case .text(let source) = parts[1], case .text(let change) = parts[2],
        let shape = description.tensors[source]
      else { return nil }
      return (name, shape, Self.changed(weight(source), shape, change))
    }
    let url = root.appending(path: "model.gguf")
    try Data(GGUFBytes(metadata: metadata, tensors: tensors).bytes).write(to: url)
    return url
  }

  private static func changed(_ values: [Float], _ shape: [Int], _ change: String) -> [Float] {
    if change == "plus one" { return values.map { $0 + 1 } }
    guard change.hasPrefix("permuted "), let heads = Int(change.dropFirst("permuted ".count)) else { return values }
    let (rows, columns) = (shape[0], values.count / shape[0])
    let half = rows / heads / 2
    // [heads, 2, half] becomes [heads, half, 2].
    return (0..<rows).flatMap { row in
      let (head, place) = row.quotientAndRemainder(dividingBy: 2 * half)
      let source = head * 2 * half + place % 2 * half + place / 2
      return values[source * columns..<(source + 1) * columns]
    }
  }

  // MARK: weights

  private func weight(_ name: String) -> [Float] {
    let count = description.tensors[name]?.reduce(1, *) ?? 0
    var random = TinyRandom(seed: Self.seed(name))
    if name.hasSuffix("norm.weight") { return random.values(count, scale: 0.2).map { $0 + description.norm_shift } }
    if name.hasSuffix(".bias") { return random.values(count, scale: 0.3) }
    if name.contains("embed_tokens") || name.contains("lm_head") { return random.values(count, scale: 0.5) }
    // On NF4's grid: the first value of each block is its maximum.
    let scale: Float = name.contains("q_proj") || name.contains("k_proj") ? 0.5 : 0.25
    return (0..<count).map { i in
      let code = Int(random.next() >> 60)
      return NF4.values[i % NF4.blockSize == 0 ? 15 : code] * scale
    }
  }

  private func writeAdapter() throws {
    let tensors = description.adapter.map { name, shape in
      var random = TinyRandom(seed: Self.seed(name))
      let count = shape.reduce(1, *)
      let values =
        name.hasSuffix("magnitude_vector")
        ? random.values(count, scale: 0.2).map { 1 + $0 }
        : random.values(count, scale: name.contains("lora_A") ? 0.125 : 0.3)
      return (name: name, shape: shape, values: values)
    }
    try SafetensorsWriter.write(tensors, to: adapter.appending(path: "adapter_model.safetensors"))
    let json = """
      {"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":"all-linear","task_type":"CAUSAL_LM","bias":"none",\
      "use_dora":\(usesDoRA)}
      """
    try Data(json.utf8).write(to: adapter.appending(path: "adapter_config.json"))
  }

  /// FNV-1a.
  private static func seed(_ name: String) -> UInt64 {
    name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
