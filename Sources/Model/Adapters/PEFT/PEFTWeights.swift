import Formats
import Foundation

/// The tensors of an adapter_model.safetensors, by the names that PEFT saves them under.
struct PEFTWeights {
  private let file: SafetensorsFile
  /// Each tensor's name in this file, by the name that PEFT saves it under.
  private let names: [String: String]

  /// What errors name.
  var subject: String { file.url.lastPathComponent }

  /// - Throws: `ModelError` for two tensors whose names mean the same
  init(_ file: SafetensorsFile) throws {
    var names: [String: String] = [:]
    for name in file.tensors.keys.sorted() {
      guard let saved = PEFTTensorName.saved(name) else { continue }
      guard names.updateValue(name, forKey: saved) == nil else {
        throw ModelError(file.url.lastPathComponent, name, reason: "comes twice, with and without the adapter's name")
      }
    }
    self.file = file
    self.names = names
  }

  /// What the class that an adapter was trained on calls the modules of the language model.
  enum Spelling {
    /// As the language model's own class does.
    case own
    /// "model.language_model.layers", in a model for images and texts.
    case nested
    /// "language_model.model.layers", in old versions of transformers.
    case wrapped

    init(_ file: SafetensorsFile) {
      let prefix = PEFTTensorName.prefix
      let names = file.tensors.keys.map { $0.hasPrefix(prefix) ? $0.dropFirst(prefix.count) : $0[...] }
      if names.contains(where: { $0.hasPrefix("model.language_model.") }) {
        self = .nested
      } else {
        self = names.contains { $0.hasPrefix("language_model.") } ? .wrapped : .own
      }
    }

    /// A module's full name, by its name in the language model's own class.
    func name(_ name: String) -> String {
      switch self {
      case .own: name
      case .nested: name.hasPrefix("model") ? "model.language_model" + name.dropFirst("model".count) : name
      case .wrapped: "language_model." + name
      }
    }
  }

  /// Whether there is a tensor of this name.
  func has(_ name: String) -> Bool { names[name] != nil }

  /// Checks that the file has every tensor that is wanted, and no others but those that are allowed.
  /// - Throws: `ModelError` naming the first tensor that is unexpected or missing
  func checkNames(wanted: Set<String>, allowed: Set<String>) throws {
    // A tensor under a wrong name is both unexpected and missing. Its own name is the better error, so it is checked
    // first.
    for name in names.keys.sorted() where !wanted.contains(name) && !allowed.contains(name) {
      throw ModelError(subject, names[name] ?? name, reason: "unexpected: the configuration does not target it")
    }
    for name in wanted.sorted() where names[name] == nil {
      let cause =
        name.hasSuffix(PEFTTensorName.biasSuffix) ? "lora_bias is set" : "the configuration targets its module"
      throw ModelError(subject, name, reason: "missing, although \(cause)")
    }
  }

  /// The shape of a tensor.
  /// - Throws: `ModelError` if it is missing
  func shape(_ name: String) throws -> [Int] { try file.tensor(names[name] ?? name).shape }

  /// An error about a tensor.
  func failure(_ name: String, _ reason: String) -> ModelError {
    ModelError(subject, names[name] ?? name, reason: reason)
  }

  /// - Throws: `ModelError` naming the tensor if it has another shape
  func check(_ name: String, shape: [Int]) throws {
    let found = try self.shape(name)
    guard found == shape else { throw failure(name, "shape \(found) instead of \(shape)") }
  }

  /// The values of a tensor, row-major.
  /// - Throws: `ModelError` naming the tensor if it has another shape or values that are not finite
  func read(_ name: String, shape: [Int]) throws -> [Float] {
    try check(name, shape: shape)
    let values = try file.floats(names[name] ?? name)
    guard FloatConversion.areFinite(values) else { throw failure(name, "has values that are not finite") }
    return values
  }

  /// A row of a tensor with two dimensions.
  /// - Parameter values: as many as a row has, written
  /// - Throws: `ModelError` naming the tensor if values are not finite
  func readRow(_ name: String, _ row: Int, into values: inout [Float]) throws {
    let count = values.count
    try values.withUnsafeMutableBufferPointer {
      try file.readFloats(names[name] ?? name, range: row * count..<(row + 1) * count, into: $0)
    }
    guard FloatConversion.areFinite(values) else { throw failure(name, "has values that are not finite") }
  }
}
