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
  }

  let modules: [Module]

  /// Writes both files of a PEFT folder.
  /// - Parameter folder: exists
  /// - Throws: `ModelError` naming the module that cannot be read, or the file that cannot be written
  func write(to folder: URL) throws {
    var tensors: [String: (shape: [Int], read: () throws -> [Float])] = [:]
    for module in modules {
      func add(_ part: PEFTTensorName.Part, _ shape: [Int], _ read: @escaping () throws -> [Float]) {
        tensors[PEFTTensorName.name(module: module.name, part)] = (shape, read)
      }
      add(.a, [module.rank, module.columns], module.a)
      add(.b, [module.outputs, module.rank], module.b)
      if let magnitude = module.magnitude { add(.magnitude, [module.outputs], magnitude) }
    }
    try PEFTWriter.write(
      configuration: configuration.encoded, tensors: tensors.map { ($0.key, $0.value.shape) }, to: folder
    ) { try tensors[$0]?.read() ?? [] }
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
