public import Foundation

/// The number formats of safetensors, by their names in the file.
public enum SafetensorsType: String, Sendable, CaseIterable {
  /// 64-bit float.
  case f64 = "F64"
  /// 32-bit float.
  case f32 = "F32"
  /// IEEE 754 binary16.
  case f16 = "F16"
  /// bfloat16.
  case bf16 = "BF16"
  /// 8-bit float with 4 exponent bits.
  case f8E4M3 = "F8_E4M3"
  /// 8-bit float with 5 exponent bits.
  case f8E5M2 = "F8_E5M2"
  /// Signed 64-bit integer.
  case i64 = "I64"
  /// Unsigned 64-bit integer.
  case u64 = "U64"
  /// Signed 32-bit integer.
  case i32 = "I32"
  /// Unsigned 32-bit integer.
  case u32 = "U32"
  /// Signed 16-bit integer.
  case i16 = "I16"
  /// Unsigned 16-bit integer.
  case u16 = "U16"
  /// Signed 8-bit integer.
  case i8 = "I8"
  /// Unsigned 8-bit integer.
  case u8 = "U8"
  /// Boolean, one byte.
  case bool = "BOOL"

  /// Whether `readFloats` converts it.
  var isFloat: Bool { [.f64, .f32, .f16, .bf16, .f8E4M3, .f8E5M2].contains(self) }
  /// What errors call the types that are converted.
  static var floats: String { "F32, F16 or BF16, or F64 or F8" }

  /// Size of an element in bytes.
  public var size: Int {
    switch self {
    case .f64, .i64, .u64: 8
    case .f32, .i32, .u32: 4
    case .f16, .bf16, .i16, .u16: 2
    case .f8E4M3, .f8E5M2, .i8, .u8, .bool: 1
    }
  }
}

/// A safetensors file (huggingface/safetensors' format description): an 8-byte header length, a JSON header, then the
/// tensors without gaps. The whole header is checked when the file is opened; parts of tensors are read on demand.
public struct SafetensorsFile: Sendable {
  /// An entry of the header.
  public struct Tensor: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// How its numbers are stored.
    public let type: SafetensorsType
    /// Row-major, slowest first; empty for a scalar.
    public let shape: [Int]
    /// Number of elements, the product of `shape`.
    public let elementCount: Int
    /// The tensor's bytes in the file.
    public let byteRange: Range<Int>

    fileprivate func named(_ name: String) -> Tensor {
      Tensor(name: name, type: type, shape: shape, elementCount: elementCount, byteRange: byteRange)
    }
  }

  /// The path that the file was opened by.
  public let url: URL
  /// The tensors by name.
  public let tensors: [String: Tensor]
  /// The header's `__metadata__`.
  public let metadata: [String: String]
  private let file: MappedFile
  /// Bytes of the header, whose contents are in memory.
  let headerLength: Int

  static let headerLimit = 100_000_000

  /// - Throws: `ModelError` naming the file, and the tensor if one is wrong
  public init(_ url: URL) throws { try self.init(url, naming: { $0 }) }

  /// - Parameter naming: what a tensor is called here, by its name in the file; `nil` for one that is passed over
  /// - Throws: `ModelError` naming the file, and the tensor if one is wrong
  init(_ url: URL, naming: (String) -> String?) throws {
    let file = try MappedFile(url)
    guard file.count >= 8 else { throw ModelError(file.name, reason: "too short for a safetensors file") }
    let lengthBytes = try file.read(offset: 0, count: 8)
    let length = lengthBytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard length <= UInt64(Self.headerLimit) else {
      throw ModelError(file.name, reason: "header of \(length) bytes, more than the \(Self.headerLimit) allowed")
    }
    let header = try file.read(offset: 8, count: Int(length))
    guard case .object(let object) = try JSONValue.parse(header, subject: file.name, limits: .file()) else {
      throw ModelError(file.name, reason: "the header is not a JSON object")
    }
    let dataStart = 8 + Int(length)
    var metadata: [String: String] = [:]
    var tensors: [String: Tensor] = [:]
    for (name, value) in object.pairs {
      if name == "__metadata__" {
        metadata = try Self.metadata(value, file: file.name)
      } else {
        tensors[name] = try Self.tensor(name, value, dataStart: dataStart, file: file)
      }
    }
    try Self.checkLayout(Array(tensors.values), dataStart: dataStart, file: file)
    tensors = try Self.renamed(tensors, naming, file: file.name)
    self.file = file
    headerLength = Int(length)
    self.url = url
    self.tensors = tensors
    self.metadata = metadata
  }

  private static func renamed(
    _ tensors: [String: Tensor], _ naming: (String) -> String?, file: String
  ) throws -> [String: Tensor] {
    var renamed: [String: Tensor] = [:]
    for (name, tensor) in tensors {
      guard let new = naming(name) else { continue }
      guard renamed.updateValue(tensor.named(new), forKey: new) == nil else {
        throw ModelError(file, name, reason: "is there under another name too")
      }
    }
    return renamed
  }

  private static func metadata(_ value: JSONValue, file: String) throws -> [String: String] {
    guard let object = value.object else { throw ModelError(file, "__metadata__", reason: "not an object") }
    var metadata: [String: String] = [:]
    for (key, value) in object.pairs {
      guard let text = value.string else { throw ModelError(file, "__metadata__", key, reason: "not a string") }
      metadata[key] = text
    }
    return metadata
  }

  private static func tensor(_ name: String, _ value: JSONValue, dataStart: Int, file: MappedFile) throws -> Tensor {
    func failure(_ reason: String) -> ModelError { ModelError(file.name, name, reason: reason) }
    guard let object = value.object else { throw failure("not an object") }
    guard let typeName = object["dtype"]?.string else { throw failure("no dtype") }
    guard let type = SafetensorsType(rawValue: typeName) else { throw failure("unknown dtype \(typeName)") }
    guard let dimensions = object["shape"]?.array, dimensions.count <= 8 else { throw failure("no shape") }
    var shape: [Int] = []
    var count = 1
    for dimension in dimensions {
      guard let size = dimension.integer, size >= 0 else { throw failure("a dimension that is no size") }
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      guard !overflow else { throw failure("shape too large") }
      count = product
      shape.append(size)
    }
    guard let offsets = object["data_offsets"]?.array, offsets.count == 2, let begin = offsets[0].integer,
      let end = offsets[1].integer, 0 <= begin, begin <= end
    else { throw failure("no data_offsets") }
    let (byteCount, overflow) = count.multipliedReportingOverflow(by: type.size)
    guard !overflow, byteCount == end - begin else {
      throw failure("\(end - begin) bytes do not hold \(type.rawValue) \(shape)")
    }
    guard end <= file.count - dataStart else {
      throw failure("truncated: ends at byte \(end) of the data, of which the file has \(file.count - dataStart)")
    }
    return Tensor(
      name: name, type: type, shape: shape, elementCount: count, byteRange: (dataStart + begin)..<(dataStart + end))
  }

  /// Checks that there are no overlaps, no gaps and no bytes after the last tensor, as the format demands.
  private static func checkLayout(_ tensors: [Tensor], dataStart: Int, file: MappedFile) throws {
    var position = dataStart
    let order = tensors.sorted {
      ($0.byteRange.lowerBound, $0.byteRange.upperBound) < ($1.byteRange.lowerBound, $1.byteRange.upperBound)
    }
    for tensor in order {
      guard tensor.byteRange.lowerBound == position else {
        let what = tensor.byteRange.lowerBound < position ? "overlaps the tensor before it" : "leaves a gap before it"
        throw ModelError(file.name, tensor.name, reason: what)
      }
      position = tensor.byteRange.upperBound
    }
    guard position == file.count else {
      throw ModelError(file.name, reason: "\(file.count - position) bytes after the last tensor")
    }
  }

  /// The header's entry of a tensor.
  /// - Throws: `ModelError` if there is no tensor of this name
  public func tensor(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else { throw ModelError(file.name, name, reason: "missing") }
    return tensor
  }

  /// Reads bytes of a tensor as they are stored.
  /// - Parameter range: all bytes if it is `nil`
  /// - Throws: `ModelError` naming the tensor
  public func bytes(_ name: String, range: Range<Int>? = nil) throws -> [UInt8] {
    let tensor = try tensor(name)
    let range = range ?? 0..<tensor.byteRange.count
    try check(range, of: tensor, limit: tensor.byteRange.count)
    return try file.read(offset: tensor.byteRange.lowerBound + range.lowerBound, count: range.count)
  }

  /// Reads bytes of a tensor as they are stored, from the byte `offset` of the tensor on, until `destination` is full.
  /// - Throws: `ModelError` naming the tensor
  func readBytes(_ tensor: Tensor, offset: Int, into destination: UnsafeMutableRawBufferPointer) throws {
    try check(offset..<offset + destination.count, of: tensor, limit: tensor.byteRange.count)
    try file.read(offset: tensor.byteRange.lowerBound + offset, into: destination)
  }

  /// Reads elements of a tensor of floats as f32.
  /// - Parameters:
  ///   - range: in row-major order
  ///   - destination: at least `range.count` floats
  /// - Throws: `ModelError` for another type, and for a file that was made shorter meanwhile
  public func readFloats(
    _ name: String, range: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>
  ) throws {
    let tensor = try tensor(name)
    try check(range, of: tensor, limit: tensor.elementCount)
    guard destination.count >= range.count else {
      throw ModelError(file.name, name, reason: "\(range.count) elements do not fit into \(destination.count)")
    }
    let target = UnsafeMutableBufferPointer(rebasing: destination[..<range.count])
    let offset = tensor.byteRange.lowerBound + range.lowerBound * tensor.type.size
    switch tensor.type {
    case .f32: try file.read(offset: offset, into: UnsafeMutableRawBufferPointer(target))
    case .f64: try convert(offset, size: 8, into: target) { FloatConversion.double($0, into: $1) }
    case .f16: try convert(offset, size: 2, into: target) { FloatConversion.half($0, into: $1) }
    case .bf16: try convert(offset, size: 2, into: target) { FloatConversion.bfloat16($0, into: $1) }
    case .f8E4M3:
      try convert(offset, size: 1, into: target) { FloatConversion.float8($0, into: $1, FloatConversion.float8E4M3) }
    case .f8E5M2:
      try convert(offset, size: 1, into: target) { FloatConversion.float8($0, into: $1, FloatConversion.float8E5M2) }
    default:
      throw ModelError(file.name, name, reason: "type \(tensor.type.rawValue) instead of \(SafetensorsType.floats)")
    }
  }

  /// Reads a whole tensor of floats as f32.
  /// - Parameter limit: the maximum of elements
  /// - Throws: `ModelError` for another type and for more elements than `limit`
  public func floats(_ name: String, limit: Int = Int.max) throws -> [Float] {
    let tensor = try tensor(name)
    guard tensor.elementCount <= limit else {
      throw ModelError(file.name, name, reason: "\(tensor.elementCount) elements, more than \(limit)")
    }
    return try [Float](unsafeUninitializedCapacity: tensor.elementCount) { buffer, initialized in
      try readFloats(name, range: 0..<tensor.elementCount, into: buffer)
      initialized = tensor.elementCount
    }
  }

  private func check(_ range: Range<Int>, of tensor: Tensor, limit: Int) throws {
    guard range.lowerBound >= 0, range.upperBound <= limit else {
      throw ModelError(file.name, tensor.name, reason: "\(range) is outside its \(limit)")
    }
  }

  /// Reads numbers of `size` bytes through a small buffer, and converts them with `body`.
  private func convert(
    _ offset: Int, size: Int, into destination: UnsafeMutableBufferPointer<Float>,
    _ body: (UnsafeRawBufferPointer, UnsafeMutableBufferPointer<Float>) -> Void
  ) throws {
    let step = 1 << 16
    try withUnsafeTemporaryAllocation(byteCount: min(step, destination.count) * size, alignment: 64) { buffer in
      for start in stride(from: 0, to: destination.count, by: step) {
        let count = min(step, destination.count - start)
        let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * size)])
        try file.read(offset: offset + start * size, into: piece)
        body(UnsafeRawBufferPointer(piece), UnsafeMutableBufferPointer(rebasing: destination[start..<(start + count)]))
      }
    }
  }
}
