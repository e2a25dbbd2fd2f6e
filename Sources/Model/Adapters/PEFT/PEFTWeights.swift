import Formats
import Foundation
import Kernels

/// The tensors of an adapter_model.safetensors.
struct PEFTWeights {
  private typealias Part = PEFTTensorName.Part

  private let file: SafetensorsFile
  private let usesDoRA: Bool
  /// Each tensor's name in this file, by the name that PEFT saves it under.
  private let names: [String: String]

  /// What errors name.
  var subject: String { file.url.lastPathComponent }
  private var parts: [Part] { usesDoRA ? Part.allCases : [.a, .b] }

  /// - Throws: `ModelError` for two tensors whose names mean the same
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

  /// The name under which PEFT saves a tensor. Inside a model the tensor's name holds the adapter's name, "default", too.
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

  private static func name(_ target: TargetedProjection, _ part: Part) -> String {
    PEFTTensorName.name(target.projection, layer: target.layer, part)
  }

  private static func name(_ copy: PEFTConfig.BaseCopy) -> String {
    "\(PEFTTensorName.prefix)\(copy.rawValue).weight"
  }

  /// Checks that the file has a tensor for each projection that the configuration targets, and no others but copies of
  /// the base's embedding and head.
  /// - Throws: `ModelError` naming the first tensor that is unexpected or missing
  func checkNames(_ targets: [TargetedProjection]) throws {
    var wanted: Set<String> = []
    for target in targets {
      for part in parts { wanted.insert(Self.name(target, part)) }
    }
    let copies = Set(PEFTConfig.BaseCopy.allCases.map(Self.name))
    // A tensor under a wrong name is both unexpected and missing. Its own name is the better error, so it is checked
    // first.
    for name in names.keys.sorted() where !wanted.contains(name) && !copies.contains(name) {
      throw ModelError(subject, names[name] ?? name, reason: "unexpected: the configuration does not target it")
    }
    for name in wanted.sorted() where names[name] == nil {
      throw ModelError(subject, name, reason: "missing, although the configuration targets its module")
    }
  }

  /// Checks saved copies of the base's embedding and head. PEFT saves them unasked where the vocabulary may have grown;
  /// copies that equal the base's change nothing.
  /// - Throws: `ModelError` naming a tensor that differs from the base's, or cannot be compared
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

  /// The values of a tensor, row-major.
  /// - Throws: `ModelError` naming the tensor if it has another shape or values that are not finite
  func read(_ target: TargetedProjection, _ part: PEFTTensorName.Part, shape: [Int]) throws -> [Float] {
    let saved = Self.name(target, part)
    let name = names[saved] ?? saved
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
