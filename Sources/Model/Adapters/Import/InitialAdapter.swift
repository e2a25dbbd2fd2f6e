import Formats
import Foundation

/// Adapters whose base was changed at initialisation (PiSSA, OLoRA, CorDA, LoRA-GA). The base lost the initial factors'
/// product, so what such an adapter adds to the unchanged base is the trained product minus the initial one: BA − B₀A₀, of
/// twice the rank. PEFT's `subtract_mutated_init` does the same.
enum InitialAdapter {
  /// Folders beside an adapter's files that may hold the initial adapter.
  static let folderNames = ["initial_adapter", "pissa_init", "olora_init", "corda_init", "lora_ga_init"]

  private static let methods = ["pissa", "olora", "corda", "lora_ga"]
  private static let configurationLimit = 4 << 20

  /// Whether a configuration says that the base was changed in a way that can be undone.
  static func isNeeded(_ configuration: URL) throws -> Bool {
    let fields = try HuggingFaceFields(configuration, limit: configurationLimit)
    guard case .string(let name)? = fields.object["init_lora_weights"] else { return false }
    return methods.contains { name == $0 || name.hasPrefix($0 + "_") }
  }

  /// Writes the difference of two adapters as a PEFT folder.
  /// - Parameters:
  ///   - initial: the folder with the adapter as it was before training
  ///   - folder: with the trained one
  ///   - target: exists
  /// - Throws: `ModelError` naming the field or tensor that is wrong
  static func subtract(_ initial: URL, from folder: URL, to target: URL) throws {
    let fields = try HuggingFaceFields(
      folder.appending(path: PEFTFolder.configurationFile), limit: configurationLimit)
    let before = try HuggingFaceFields(
      initial.appending(path: PEFTFolder.configurationFile), limit: configurationLimit)
    for key in ["r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"]
    where (fields.object[key] ?? .null) != (before.object[key] ?? .null) {
      throw fields.failure(key, "differs from the initial adapter's")
    }
    if try fields.bool("use_dora") == true { throw fields.failure("use_dora", "cannot go with a changed base") }
    let file = try SafetensorsFile(folder.appending(path: PEFTFolder.weightsFile))
    let initialFile = try SafetensorsFile(initial.appending(path: PEFTFolder.weightsFile))
    let tensors = try file.tensors.values.map { try Difference($0, initialFile) }
    let byName = Dictionary(tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    try PEFTWriter.write(
      configuration: doubled(fields).encoded, tensors: tensors.map { ($0.name, $0.shape) }, to: target
    ) { try byName[$0]?.values(file, initialFile) ?? [] }
  }

  /// A tensor of the difference.
  private struct Difference {
    private enum Kind {
      /// Rows of both, one after the other.
      case a
      /// Columns of both, the initial ones negative.
      case b
      /// B's bias, less the initial one.
      case bias
      case other
    }

    let name: String
    let shape: [Int]
    private let kind: Kind

    init(_ tensor: SafetensorsFile.Tensor, _ initial: SafetensorsFile) throws {
      name = tensor.name
      kind = Self.kind(of: tensor.name)
      guard kind != .other else {
        shape = tensor.shape
        return
      }
      let before = try initial.tensor(name)
      guard before.shape == tensor.shape, tensor.shape.count == (kind == .bias ? 1 : 2) else {
        throw ModelError(
          "initial adapter", name, reason: "shape \(before.shape) beside \(tensor.shape) of the trained one")
      }
      switch kind {
      case .a: shape = [2 * tensor.shape[0], tensor.shape[1]]
      case .b: shape = [tensor.shape[0], 2 * tensor.shape[1]]
      case .bias, .other: shape = tensor.shape
      }
    }

    private static func kind(of name: String) -> Kind {
      if name.hasSuffix(PEFTTensorName.biasSuffix) { return .bias }
      func isPart(_ parts: [String]) -> Bool { parts.contains { name.contains(".\($0)") } }
      return isPart(["lora_A", "lora_embedding_A"]) ? .a : isPart(["lora_B", "lora_embedding_B"]) ? .b : .other
    }

    func values(_ file: SafetensorsFile, _ initial: SafetensorsFile) throws -> [Float] {
      let values = try file.floats(name)
      switch kind {
      case .other: return values
      case .a: return try values + initial.floats(name)
      case .bias: return try zip(values, initial.floats(name)).map { $0 - $1 }
      case .b:
        let before = try initial.floats(name)
        let rank = shape[1] / 2
        return (0..<shape[0]).flatMap { row in
          let range = row * rank..<(row + 1) * rank
          return values[range] + before[range].map { -$0 }
        }
      }
    }
  }

  /// The configuration with twice the ranks and the same scales.
  private static func doubled(_ fields: HuggingFaceFields) throws -> JSONValue {
    let factor = try fields.bool("use_rslora") == true ? Double(2).squareRoot() : 2
    func twice(_ value: JSONValue) -> JSONValue? { value.integer.map { .integer(2 * min($0, 1 << 20)) } }
    func scaled(_ value: JSONValue) -> JSONValue? { value.double.map { .number(factor * $0) } }
    func changed(_ value: JSONValue, _ change: (JSONValue) -> JSONValue?) -> JSONValue {
      guard let pairs = value.object?.pairs else { return change(value) ?? value }
      return .object(JSONObject(keepingFirst: pairs.map { ($0.key, change($0.value) ?? $0.value) }))
    }
    var pairs: [(key: String, value: JSONValue)] = []
    for (key, value) in fields.object.pairs {
      switch key {
      case "r", "rank_pattern": pairs.append((key, changed(value, twice)))
      case "lora_alpha", "alpha_pattern": pairs.append((key, changed(value, scaled)))
      case "init_lora_weights": pairs.append((key, true))
      default: pairs.append((key, value))
      }
    }
    // PEFT's defaults, where the file has none.
    if fields.object["r"] == nil { pairs.append(("r", 16)) }
    if fields.object["lora_alpha"] == nil { pairs.append(("lora_alpha", .number(8 * factor))) }
    return .object(JSONObject(keepingFirst: pairs))
  }
}
