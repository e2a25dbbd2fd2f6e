import Formats
import Foundation
import Kernels

/// The tensors of an adapter_model.safetensors.
struct PEFTWeights {
  enum Part: String, CaseIterable {
    case a = "lora_A.weight"
    case b = "lora_B.weight"
    case magnitude = "lora_magnitude_vector"
  }

  private let file: SafetensorsFile
  private let usesDoRA: Bool
  /// The name in the file of each tensor under the name that PEFT saves it by.
  private let names: [String: String]

  /// What errors name.
  var subject: String { file.url.lastPathComponent }
  private var parts: [Part] { usesDoRA ? Part.allCases : [.a, .b] }
  private static let prefix = "base_model.model."

  /// Throws `ModelError` for two tensors whose names mean the same.
  init(_ file: SafetensorsFile, usesDoRA: Bool) throws {
    var names: [String: String] = [:]
    for name in file.tensors.keys.sorted() {
      guard names.updateValue(name, forKey: Self.savedName(name)) == nil else {
        throw ModelError(file.url.lastPathComponent, name, reason: "comes twice, with and without the adapter's name")
      }
    }
    self.file = file
    self.usesDoRA = usesDoRA
    self.names = names
  }

  /// The name by which PEFT saves a tensor that inside a model has the adapter's name, "default", in its own.
  private static func savedName(_ name: String) -> String {
    var saved = name
    for part in ["lora_A", "lora_B", "lora_magnitude_vector", "modules_to_save"] {
      saved.replace(".\(part).default", with: ".\(part)", maxReplacements: 1)
    }
    saved.replace(".modules_to_save.", with: ".", maxReplacements: 1)
    // PEFT keeps magnitudes as the weight of a module, and saves them without its name.
    if saved.hasSuffix(".lora_magnitude_vector.weight") { saved.removeLast(".weight".count) }
    return saved
  }

  private func name(_ target: PEFTModules.Target, _ part: Part) -> String {
    "\(Self.prefix)\(target.linear.fullName(layer: target.layer)).\(part.rawValue)"
  }

  private static func name(_ copy: PEFTConfig.BaseCopy) -> String { "\(prefix)\(copy.rawValue).weight" }

  /// Checks that the file has a tensor for each module that the configuration targets, and no others but copies of the
  /// base's embedding and head.
  func checkNames(_ targets: [PEFTModules.Target]) throws {
    var wanted: Set<String> = []
    for target in targets {
      for part in parts { wanted.insert(name(target, part)) }
    }
    let copies = Set(PEFTConfig.BaseCopy.allCases.map(Self.name))
    // A missing tensor usually has an unknown one for its cause, which says more.
    for name in names.keys.sorted() where !wanted.contains(name) && !copies.contains(name) {
      throw ModelError(subject, names[name] ?? name, reason: "unexpected: the configuration does not target it")
    }
    for name in wanted.sorted() where names[name] == nil {
      throw ModelError(subject, name, reason: "missing, although the configuration targets its module")
    }
  }

  /// PEFT saves the embedding and the head on its own account where the vocabulary may have grown. Copies that equal the
  /// base's change nothing.
  /// Throws `ModelError` naming a tensor that differs from the base's, or cannot be compared.
  func checkCopies(of base: Base?) throws {
    for copy in PEFTConfig.BaseCopy.allCases {
      guard let name = names[Self.name(copy)] else { continue }
      guard let base, let matrix = copy == .embedding ? base.embedding : base.exactHead else {
        throw ModelError(subject, name, reason: "is a copy of the base's, which is not supported here")
      }
      try check(name, equals: matrix)
    }
  }

  private func check(_ name: String, equals matrix: Matrix) throws {
    let tensor = try file.tensor(name)
    guard tensor.shape == [matrix.outputs, matrix.columns] else {
      throw ModelError(
        subject, name, reason: "shape \(tensor.shape) instead of the base's, [\(matrix.outputs), \(matrix.columns)]")
    }
    let columns = matrix.columns
    var (saved, own) = ([Float](repeating: 0, count: columns), [Float](repeating: 0, count: columns))
    for row in 0..<matrix.outputs {
      try saved.withUnsafeMutableBufferPointer {
        try file.readFloats(name, range: row * columns..<(row + 1) * columns, into: $0)
      }
      matrix.copyRow(row, to: &own)
      guard saved == own else {
        throw ModelError(
          subject, name, reason: "differs from the base's in row \(row), and adapters change linear modules only")
      }
    }
  }

  func read(_ target: PEFTModules.Target, _ part: Part, shape: [Int]) throws -> [Float] {
    let name = names[name(target, part)] ?? name(target, part)
    let tensor = try file.tensor(name)
    guard tensor.shape == shape else {
      throw ModelError(subject, name, reason: "shape \(tensor.shape) instead of \(shape)")
    }
    let values = try file.floats(name)
    guard FloatConversion.areFinite(values) else {
      throw ModelError(subject, name, reason: "has values that are not finite")
    }
    return values
  }
}
