import Formats
import Foundation

/// LoRA factors from another form, to be written as a PEFT folder.
struct PlainFactors {
  /// The factors of one module. They are read when they are written, so that one is in memory at a time.
  struct Module {
    /// "model.layers.3.self_attn.q_proj", "model.embed_tokens" or "lm_head".
    let name: String
    let rank: Int
    /// The scale times the rank.
    let alpha: Double
    /// [rank, columns]
    let columns: Int
    /// [outputs, rank]
    let outputs: Int
    let a: () throws -> [Float]
    let b: () throws -> [Float]
    /// DoRA's, [outputs].
    var magnitude: (() throws -> [Float])?

    private var isEmbedding: Bool { name == PEFTConfig.Table.embedding.rawValue }
    fileprivate var aName: String {
      "\(PEFTTensorName.prefix)\(name).\(isEmbedding ? "lora_embedding_A" : PEFTTensorName.Part.a.rawValue)"
    }
    fileprivate var bName: String {
      "\(PEFTTensorName.prefix)\(name).\(isEmbedding ? "lora_embedding_B" : PEFTTensorName.Part.b.rawValue)"
    }
    fileprivate var magnitudeName: String {
      "\(PEFTTensorName.prefix)\(name).\(PEFTTensorName.Part.magnitude.rawValue)"
    }
  }

  let modules: [Module]

  /// Writes both files of a PEFT folder.
  /// - Parameter folder: exists
  /// - Throws: `ModelError` naming the module that cannot be read, or the file that cannot be written
  func write(to folder: URL) throws {
    var tensors: [String: (shape: [Int], read: () throws -> [Float])] = [:]
    for module in modules {
      tensors[module.aName] = ([module.rank, module.columns], module.a)
      tensors[module.bName] = ([module.outputs, module.rank], module.b)
      if let magnitude = module.magnitude { tensors[module.magnitudeName] = ([module.outputs], magnitude) }
    }
    let writer = try SafetensorsWriter(
      folder.appending(path: PEFTFolder.weightsFile),
      entries: tensors.map { SafetensorsWriter.Entry(name: $0.key, type: .f32, shape: $0.value.shape) },
      metadata: ["format": "pt"])
    for entry in writer.order {
      guard let values = try tensors[entry.name]?.read(), values.count * 4 == entry.byteCount else {
        throw ModelError(entry.name, reason: "has not as many values as its shape says")
      }
      try values.withUnsafeBytes { try writer.append($0) }
    }
    try writer.finish()
    try AtomicFile.write(configuration.encoded, to: folder.appending(path: PEFTFolder.configurationFile))
  }

  private var configuration: JSONValue {
    let names = modules.map(\.name).sorted()
    let (rank, alpha) = (modules.first?.rank ?? 1, modules.first?.alpha ?? 1)
    func pattern(_ value: (Module) -> JSONValue?) -> JSONValue {
      .object(JSONObject(keepingFirst: modules.compactMap { module in value(module).map { (module.name, $0) } }))
    }
    return [
      "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": .integer(rank), "lora_alpha": .number(alpha), "bias": "none",
      "target_modules": .array(names.map(JSONValue.string)),
      "rank_pattern": pattern { $0.rank == rank ? nil : .integer($0.rank) },
      "alpha_pattern": pattern { $0.alpha == alpha ? nil : .number($0.alpha) },
      "use_dora": .bool(modules.contains { $0.magnitude != nil }),
    ]
  }
}
