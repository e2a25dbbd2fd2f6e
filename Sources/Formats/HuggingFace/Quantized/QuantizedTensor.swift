import Foundation

/// A matrix that a folder stores as codes and scales, in several tensors.
protocol QuantizedTensor: Sendable {
  /// The names of all tensors that the matrix is stored in.
  var names: [String] { get }
  /// [rows, columns]
  var shape: [Int] { get }
  /// Computes rows as f32. No more of the stored tensors than these rows need is in memory.
  /// - Parameters:
  ///   - rows: inside the shape
  ///   - destination: `rows.count × columns` floats
  /// - Throws: `ModelError` for a short read, and for a scale that is not finite
  func read(rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws
}

/// One of the tensors that a quantised matrix is stored in, with its type and shape checked.
struct StoredTensor: Sendable {
  private let file: SafetensorsFile
  private let tensor: SafetensorsFile.Tensor

  /// The types that scales are stored in.
  static let scaleTypes: [SafetensorsType] = [.f32, .f16, .bf16]

  /// - Parameters:
  ///   - types: those that the tensor may have
  ///   - shape: that it must have; `nil` for any
  /// - Throws: `ModelError` naming file and tensor, if it is missing or has another type or shape
  init(_ name: String, _ types: [SafetensorsType], shape: [Int]?, in folder: SafetensorsFolder) throws {
    guard let file = folder.file(of: name) else { throw ModelError(folder.subject(name), name, reason: "missing") }
    self.file = file
    tensor = try file.tensor(name)
    guard types.contains(tensor.type) else {
      throw failure("type \(tensor.type.rawValue) instead of \(types.map(\.rawValue).joined(separator: ", "))")
    }
    if let shape, tensor.shape != shape { throw failure("shape \(tensor.shape) instead of \(shape)") }
  }

  var name: String { tensor.name }
  var shape: [Int] { tensor.shape }
  var type: SafetensorsType { tensor.type }
  var elementCount: Int { tensor.elementCount }

  /// An error about the tensor.
  func failure(_ reason: String) -> ModelError { ModelError(file.url.lastPathComponent, name, reason: reason) }

  /// Reads elements of scales.
  /// - Throws: `ModelError` if one is not finite
  func scales(_ range: Range<Int>) throws -> [Float] {
    let values = try [Float](unsafeUninitializedCapacity: range.count) { buffer, initialized in
      try file.readFloats(name, range: range, into: buffer)
      initialized = range.count
    }
    guard FloatConversion.areFinite(values) else { throw failure("has scales that are not finite") }
    return values
  }

  /// Reads elements from the one with the index `first` on, as they are stored, until `destination` is full.
  func read(first: Int, into destination: UnsafeMutableRawBufferPointer) throws {
    try file.readBytes(tensor, offset: first * tensor.type.size, into: destination)
  }

  /// Reads elements of an I32 tensor as the words that codes are packed into.
  func words(_ range: Range<Int>) throws -> [UInt32] {
    var words = [UInt32](repeating: 0, count: range.count)
    try words.withUnsafeMutableBytes { try read(first: range.lowerBound, into: $0) }
    return words
  }
}

extension QuantizedTensor {
  /// - Throws: `ModelError` for rows that the matrix does not have, and for a destination that is too small
  func check(_ rows: Range<Int>, _ destination: UnsafeMutableBufferPointer<Float>, _ stored: StoredTensor) throws {
    guard rows.lowerBound >= 0, rows.upperBound <= shape[0], destination.count >= rows.count * shape[1] else {
      throw stored.failure("rows \(rows) of \(shape[0])")
    }
  }
}
