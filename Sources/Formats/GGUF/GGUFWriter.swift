public import Foundation

/// Writes a GGUF file of version 3, atomically and tensor by tensor, so that the tensors need not all be in memory.
public final class GGUFWriter {
  /// A metadata value.
  public enum Value: Sendable, Equatable {
    /// An unsigned 32-bit integer.
    case uint32(UInt32)
    /// A 32-bit float.
    case float32(Float)
    /// A string.
    case string(String)
    /// A value as another file has it: its type, then its bytes.
    case encoded([UInt8])
  }

  /// A tensor to write.
  public struct Entry: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// How its numbers are stored: one of `GGUFWriter.types`.
    public let type: GGUFTensorType
    /// Row-major, slowest first, the reverse of the file's order.
    public let shape: [Int]

    /// - Parameters: as the properties
    public init(name: String, type: GGUFTensorType, shape: [Int]) {
      self.name = name
      self.type = type
      self.shape = shape
    }

    /// Number of elements.
    public var elementCount: Int { shape.reduce(1, *) }

    /// Bytes of the tensor in the file.
    public var byteCount: Int { type.block.map { elementCount / $0.elements * $0.bytes } ?? 0 }
  }

  /// The number formats that `append` rounds to.
  public static let types: [GGUFTensorType] = [.f32, .f16, .bf16, .q8_0]

  /// The order in which `append` takes the tensors' values, which is the order of `init`.
  public let entries: [Entry]
  private let file: AtomicFile
  private var next = 0
  private var writtenOfNext = 0

  private static let alignment = 32

  /// Writes metadata and tensor directory.
  /// - Parameters:
  ///   - url: where the file appears when it is finished
  ///   - metadata: in the file's order
  ///   - entries: in the file's order
  /// - Throws: `ModelError` for a name that comes twice, for rows that are no whole number of their type's blocks, and for
  ///   a folder that cannot be written to
  public init(_ url: URL, metadata: [(key: String, value: Value)], entries: [Entry]) throws {
    self.entries = entries
    var bytes = GGUFFile.magic
    bytes.put(UInt32(3))
    bytes.put(UInt64(entries.count))
    bytes.put(UInt64(metadata.count))
    var names: Set<String> = []
    for (key, value) in metadata {
      guard names.insert(key).inserted else { throw ModelError(url.lastPathComponent, key, reason: "comes twice") }
      bytes.put(key)
      bytes.put(value)
    }
    names = []
    var offset = 0
    for entry in entries {
      guard names.insert(entry.name).inserted else {
        throw ModelError(url.lastPathComponent, entry.name, reason: "comes twice")
      }
      guard let block = entry.type.block, (entry.shape.last ?? 1) % block.elements == 0 else {
        throw ModelError(
          url.lastPathComponent, entry.name,
          reason: "rows of \(entry.shape.last ?? 1) cannot be stored as \(entry.type)")
      }
      bytes.put(entry.name)
      bytes.put(UInt32(entry.shape.count))
      for size in entry.shape.reversed() { bytes.put(UInt64(size)) }
      bytes.put(entry.type.code)
      bytes.put(UInt64(offset))
      offset += Self.aligned(entry.byteCount)
    }
    bytes += [UInt8](repeating: 0, count: Self.aligned(bytes.count) - bytes.count)
    file = try AtomicFile(url)
    try bytes.withUnsafeBytes { try file.write($0) }
  }

  private static func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }

  /// Appends values of the next tensor, rounded to its type. A tensor's values can come in several calls of whole rows.
  /// - Throws: `ModelError` naming the tensor for more values than it has, for a value that its type cannot hold, and if
  ///   the file cannot be written
  public func append(_ values: UnsafeBufferPointer<Float>) throws {
    if values.isEmpty { return }
    guard next < entries.count else {
      throw ModelError(file.url.lastPathComponent, reason: "more values than its tensors have")
    }
    let entry = entries[next]
    try entry.type.encode(values, subject: "\(file.url.lastPathComponent): \(entry.name)") {
      try append(encoded: $0)
    }
  }

  /// Appends bytes of the next tensor that have its type already.
  /// - Throws: `ModelError` for more bytes than the tensor has, and if the file cannot be written
  public func append(encoded bytes: UnsafeRawBufferPointer) throws {
    if bytes.isEmpty { return }
    guard next < entries.count, bytes.count <= entries[next].byteCount - writtenOfNext else {
      throw ModelError(file.url.lastPathComponent, reason: "more values than its tensors have")
    }
    try file.write(bytes)
    writtenOfNext += bytes.count
    guard writtenOfNext == entries[next].byteCount else { return }
    try file.write(zeros: Self.aligned(writtenOfNext) - writtenOfNext)
    next += 1
    writtenOfNext = 0
  }

  /// Makes the file appear under its name.
  /// - Throws: `ModelError` if tensors are missing or the disk fails
  public func finish() throws {
    guard next == entries.count else {
      throw ModelError(file.url.lastPathComponent, entries[next].name, reason: "was not written whole")
    }
    try file.finish()
  }
}

extension [UInt8] {
  fileprivate mutating func put(_ value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.littleEndian) { self += $0 }
  }

  fileprivate mutating func put(_ text: String) {
    put(UInt64(text.utf8.count))
    self += text.utf8
  }

  fileprivate mutating func put(_ value: GGUFWriter.Value) {
    switch value {
    case .uint32(let integer):
      put(GGUFValueType.uint32.rawValue)
      put(integer)
    case .float32(let float):
      put(GGUFValueType.float32.rawValue)
      put(float.bitPattern)
    case .string(let text):
      put(GGUFValueType.string.rawValue)
      put(text)
    case .encoded(let bytes): self += bytes
    }
  }
}

extension GGUFTensorType {
  /// Rounds values to this type, as the Python package `gguf` does, bit for bit.
  /// - Parameters:
  ///   - values: whole blocks
  ///   - subject: what errors name
  ///   - body: gets the bytes, a part at a time
  /// - Throws: `ModelError` for a value that the type cannot hold, and what `body` throws
  fileprivate func encode(
    _ values: UnsafeBufferPointer<Float>, subject: String, _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    guard let block else { throw ModelError(subject, reason: "type \(self) is not written") }
    guard values.count % block.elements == 0 else {
      throw ModelError(subject, reason: "\(values.count) values are no whole number of blocks of \(self)")
    }
    if self == .f32 { return try body(UnsafeRawBufferPointer(values)) }
    let largest: Float =
      switch self {
      case .f16: FloatConversion.largestHalf
      case .bf16: FloatConversion.largestBFloat16
      // Its scale is an f16.
      default: FloatConversion.largestHalf * 127
      }
    let step = 1 << 16
    try withUnsafeTemporaryAllocation(byteCount: step / block.elements * block.bytes, alignment: 64) { buffer in
      for start in stride(from: 0, to: values.count, by: step) {
        let part = UnsafeBufferPointer(rebasing: values[start..<min(start + step, values.count)])
        guard part.allSatisfy({ abs($0) <= largest }) else {
          throw ModelError(subject, reason: "has values that \(self) cannot hold")
        }
        let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(part.count / block.elements * block.bytes)])
        switch self {
        case .f16: FloatConversion.writeHalf(part, into: bytes)
        case .bf16: FloatConversion.writeBFloat16(part, into: bytes)
        case .q8_0: Self.writeQ8_0(part, into: bytes)
        default: throw ModelError(subject, reason: "type \(self) is not written")
        }
        try body(UnsafeRawBufferPointer(bytes))
      }
    }
  }

  /// Blocks of 32: an f16 scale, the largest magnitude / 127, and signed bytes, rounded half away from zero.
  private static func writeQ8_0(_ values: UnsafeBufferPointer<Float>, into bytes: UnsafeMutableRawBufferPointer) {
    for block in 0..<values.count / 32 {
      let source = UnsafeBufferPointer(rebasing: values[block * 32..<(block + 1) * 32])
      let scale = source.reduce(Float(0)) { max($0, abs($1)) } / 127
      // Values so small that this overflows are 0 in f16, which the scale is stored in.
      let inverse = (1 / scale).isFinite ? 1 / scale : 0
      bytes.storeBytes(
        of: FloatConversion.halfBits(scale).littleEndian, toByteOffset: block * 34, as: UInt16.self)
      for index in 0..<32 {
        let code = Int8(clamping: Int((source[index] * inverse).rounded(.toNearestOrAwayFromZero)))
        bytes.storeBytes(of: code, toByteOffset: block * 34 + 2 + index, as: Int8.self)
      }
    }
  }
}
