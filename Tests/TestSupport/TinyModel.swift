public import Tokenization
public import Formats
public import Foundation
public import Kernels
public import Model

/// Sizes of a made-up Llama model.
public struct TinyShape: Sendable {
  public var hidden: Int
  public var intermediate: Int
  public var layers: Int
  public var heads: Int
  public var keyValueHeads: Int
  public var headSize: Int
  public var vocabulary: Int
  public var context: Int
  public var isTied: Bool
  /// `rope_scaling` of config.json, as JSON.
  public var ropeScaling: String

  /// The default's rows are no multiple of 64 long, so that NF4 blocks straddle them.
  public init(
    hidden: Int = 96, intermediate: Int = 144, layers: Int = 2, heads: Int = 6, keyValueHeads: Int = 2,
    headSize: Int = 16, vocabulary: Int = 300, context: Int = 512, isTied: Bool = false, ropeScaling: String = "null"
  ) {
    self.hidden = hidden
    self.intermediate = intermediate
    self.layers = layers
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headSize = headSize
    self.vocabulary = vocabulary
    self.context = context
    self.isTied = isTied
    self.ropeScaling = ropeScaling
  }
}

/// A made-up model in a temporary folder, as Hugging Face would publish it, with its adapters beside it.
public final class TinyModel {
  public let shape: TinyShape
  /// Holds `model`, `adapters` and what is prepared.
  public let root: URL
  public var folder: URL { root.appending(path: "model") }
  public var adaptersFolder: URL { root.appending(path: "adapters") }
  /// As published, by Hugging Face name, row-major.
  public private(set) var tensors: [String: (shape: [Int], values: [Float])] = [:]
  /// The linear weights that a folder in NF4 leaves as they are; `nil` for a folder that is not in NF4.
  public let unquantized: Set<String>?

  public init(_ shape: TinyShape = TinyShape(), seed: UInt64 = 1, unquantized: Set<String>? = nil) throws {
    self.shape = shape
    self.unquantized = unquantized
    root = FileManager.default.temporaryDirectory.appending(path: "graft-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try FileManager.default.createDirectory(at: adaptersFolder, withIntermediateDirectories: true)
    try Data(configJSON.utf8).write(to: folder.appending(path: "config.json"))
    try TinyTokenizer.write(to: folder)
    makeTensors(seed)
    try writeTensors()
  }

  deinit { try? FileManager.default.removeItem(at: root) }

  private var configJSON: String {
    """
    {"model_type":"llama","vocab_size":\(shape.vocabulary),"hidden_size":\(shape.hidden),\
    "intermediate_size":\(shape.intermediate),"num_hidden_layers":\(shape.layers),\
    "num_attention_heads":\(shape.heads),"num_key_value_heads":\(shape.keyValueHeads),"head_dim":\(shape.headSize),\
    "hidden_act":"silu","max_position_embeddings":\(shape.context),"rms_norm_eps":1e-5,"rope_theta":10000.0,\
    "rope_scaling":\(shape.ropeScaling),"tie_word_embeddings":\(shape.isTied),"bos_token_id":0,"eos_token_id":0,\
    "quantization_config":\(quantizationJSON)}
    """
  }

  private var quantizationJSON: String {
    guard let unquantized else { return "null" }
    let names = unquantized.map { "\"\($0.replacing(".weight", with: ""))\"" }.sorted().joined(separator: ",")
    return """
      {"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4","llm_int8_skip_modules":[\(names)]}
      """
  }

  /// Whether the base computes with the weight in NF4.
  public func isQuantized(_ name: String) -> Bool {
    name.contains("_proj") && unquantized?.contains(name) != true
  }

  private func makeTensors(_ seed: UInt64) {
    var random = TinyRandom(seed: seed)
    let queries = shape.heads * shape.headSize
    let keys = shape.keyValueHeads * shape.headSize
    func matrix(_ name: String, _ rows: Int, _ columns: Int, gain: Float) {
      tensors[name] = ([rows, columns], random.values(rows * columns, scale: gain / Float(columns).squareRoot()))
    }
    func norm(_ name: String) {
      tensors[name] = ([shape.hidden], random.values(shape.hidden, scale: 0.2).map { 1 + $0 })
    }
    matrix("model.embed_tokens.weight", shape.vocabulary, shape.hidden, gain: Float(shape.hidden).squareRoot())
    if !shape.isTied { matrix("lm_head.weight", shape.vocabulary, shape.hidden, gain: 4) }
    norm("model.norm.weight")
    for layer in 0..<shape.layers {
      let prefix = "model.layers.\(layer)."
      norm(prefix + "input_layernorm.weight")
      norm(prefix + "post_attention_layernorm.weight")
      matrix(prefix + "self_attn.q_proj.weight", queries, shape.hidden, gain: 3)
      matrix(prefix + "self_attn.k_proj.weight", keys, shape.hidden, gain: 3)
      matrix(prefix + "self_attn.v_proj.weight", keys, shape.hidden, gain: 2)
      matrix(prefix + "self_attn.o_proj.weight", shape.hidden, queries, gain: 2)
      matrix(prefix + "mlp.gate_proj.weight", shape.intermediate, shape.hidden, gain: 2)
      matrix(prefix + "mlp.up_proj.weight", shape.intermediate, shape.hidden, gain: 2)
      matrix(prefix + "mlp.down_proj.weight", shape.hidden, shape.intermediate, gain: 2)
    }
  }

  /// Writes the weights again, after a test has changed some.
  public func writeTensors() throws {
    if unquantized != nil { return try writeNF4() }
    let list = tensors.map { (name: $0.key, shape: $0.value.shape, values: $0.value.values) }
    try SafetensorsWriter.write(list, to: folder.appending(path: "model.safetensors"))
  }

  /// As bitsandbytes stores NF4, without double quantisation.
  private func writeNF4() throws {
    var entries: [SafetensorsWriter.Entry] = []
    var bytes: [String: [UInt8]] = [:]
    func add(_ name: String, _ type: SafetensorsType, _ shape: [Int], _ content: [UInt8]) {
      entries.append(.init(name: name, type: type, shape: shape))
      bytes[name] = content
    }
    func raw(_ values: [Float]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
    for (name, tensor) in tensors {
      guard isQuantized(name) else {
        add(name, .f32, tensor.shape, raw(tensor.values))
        continue
      }
      let (packed, absmax) = try NF4.quantize(tensor.values)
      let state = Array(#"{"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":\#(tensor.shape)}"#.utf8)
      add(name, .u8, [packed.count, 1], packed)
      add(name + ".absmax", .f32, [absmax.count], raw(absmax))
      add(name + ".quant_map", .f32, [16], raw(NF4.values))
      add(name + ".quant_state.bitsandbytes__nf4", .u8, [state.count], state)
    }
    let writer = try SafetensorsWriter(folder.appending(path: "model.safetensors"), entries: entries)
    for entry in writer.order { try (bytes[entry.name] ?? []).withUnsafeBytes { try writer.append($0) } }
    try writer.finish()
  }

  /// Adds a tensor, or takes one out with `nil`.
  public func replaceTensor(_ name: String, _ tensor: (shape: [Int], values: [Float])?) { tensors[name] = tensor }

  public func setTensor(_ name: String, _ values: [Float]) {
    tensors[name]?.values = values
  }

  public func source() throws -> any PublishedModel { try openPublishedModel(at: folder) }

  public var store: BaseStore { BaseStore(dataFolder: root.appending(path: "data")) }

  public func base(_ mode: ComputeMode = .f32, threads: Int = 1) throws -> Base {
    try store.open(try source(), mode: mode, pool: ThreadPool(threads: threads)).base
  }

  public func tokenizer() throws -> Tokenizer { try Tokenizer(.huggingFace(folder), name: "tiny") }
}
