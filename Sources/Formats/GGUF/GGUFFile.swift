public import Foundation

/// A GGUF file of version 2 or 3, little-endian (ggml-org/ggml, docs/gguf.md): metadata, tensor directory, tensors. The
/// whole directory is checked when the file is opened; rows are read and dequantised on demand.
public struct GGUFFile: Sendable {
  /// An entry of the tensor directory.
  public struct Tensor: Sendable, Equatable {
    /// The tensor's name in the file.
    public let name: String
    /// How its numbers are stored.
    public let type: GGUFTensorType
    /// Row-major, slowest first: [rows, columns], the reverse of the file's order.
    public let shape: [Int]
    /// The tensor's bytes in the file; `nil` for a type that cannot be read.
    public let byteRange: Range<Int>?

    /// The last dimension.
    public var columns: Int { shape.last ?? 1 }
    /// The product of all dimensions but the last.
    public var rows: Int { shape.dropLast().reduce(1, *) }
  }

  /// The path that the file was opened by.
  public let url: URL
  /// 2 or 3.
  public let version: Int
  /// The metadata by key.
  public let metadata: [String: GGUFValue]
  /// The tensors by name.
  public let tensors: [String: Tensor]
  let file: MappedFile
  /// What errors name.
  var name: String { file.name }

  static let magic: [UInt8] = Array("GGUF".utf8)
  private static let keyLimit = 65_535
  private static let dimensionLimit = 4
  /// The maximum elements of an array of metadata that is read.
  private static let elementLimit = 1 << 24

  /// - Throws: `ModelError` naming the file, and the key or the tensor if one is wrong
  public init(_ url: URL) throws {
    var allowance = GGUFAllowance()
    try self.init(url, allowance: &allowance)
  }

  /// Opens a file that may be a part of a model.
  /// - Parameters:
  ///   - allowance: of what the file and the parts before it have in memory
  ///   - keeps: the metadata that stays in memory
  /// - Throws: `ModelError` naming the file, and the key or the tensor if one is wrong
  init(_ url: URL, allowance: inout GGUFAllowance, keeping keeps: (String) -> Bool = { _ in true }) throws {
    let file = try MappedFile(url)
    var reader = GGUFReader(file: file, allowance: allowance)
    guard file.count >= 24, try file.read(offset: 0, count: 4) == Self.magic else {
      throw ModelError(file.name, reason: "not a GGUF file")
    }
    try reader.skip(4)
    let version = try reader.integer(UInt32.self)
    guard version == 0 || version.byteSwapped > 3 else {
      throw ModelError(file.name, reason: "big-endian GGUF is not supported")
    }
    guard version == 2 || version == 3 else {
      throw ModelError(file.name, reason: "GGUF version \(version) is not supported")
    }
    let tensorCount = try reader.count(limit: file.count / 24, of: "tensors")
    let pairCount = try reader.count(limit: file.count / 13, of: "metadata pairs")
    try reader.willRead(tensors: tensorCount, pairs: pairCount)
    let metadata = try Self.metadata(&reader, count: pairCount, keeping: keeps)
    let entries = try Self.directory(&reader, count: tensorCount)
    allowance = reader.allowance

    let alignment = try Self.alignment(metadata, file: file.name)
    let dataStart = reader.offset + (alignment - reader.offset % alignment) % alignment
    self.tensors = try Self.resolve(entries, dataStart: dataStart, alignment: alignment, file: file)
    self.url = url
    self.version = Int(version)
    self.metadata = metadata
    self.file = file
  }

  private static func metadata(
    _ reader: inout GGUFReader, count: Int, keeping keeps: (String) -> Bool
  ) throws -> [String: GGUFValue] {
    var metadata: [String: GGUFValue] = [:]
    var names: Set<String> = []
    for _ in 0..<count {
      let key = try reader.string()
      guard !key.isEmpty, key.utf8.count <= keyLimit else {
        throw ModelError(reader.file.name, reason: "a metadata key of \(key.utf8.count) bytes")
      }
      guard names.insert(key).inserted else { throw ModelError(reader.file.name, key, reason: "comes twice") }
      let value = try reader.value(reader.valueType())
      if keeps(key) { metadata[key] = value }
    }
    return metadata
  }

  private struct Entry {
    let name: String
    let type: GGUFTensorType
    let shape: [Int]
    let offset: UInt64
  }

  private static func directory(_ reader: inout GGUFReader, count: Int) throws -> [Entry] {
    var entries: [Entry] = []
    var names: Set<String> = []
    for _ in 0..<count {
      let name = try reader.string()
      guard names.insert(name).inserted else { throw ModelError(reader.file.name, name, reason: "comes twice") }
      let dimensionCount = try reader.integer(UInt32.self)
      guard 1...dimensionLimit ~= Int(dimensionCount) else {
        throw ModelError(reader.file.name, name, reason: "\(dimensionCount) dimensions")
      }
      var shape: [Int] = []
      for _ in 0..<dimensionCount {
        let size = try reader.integer(UInt64.self)
        guard size > 0, size <= UInt64(Int32.max) else {
          throw ModelError(reader.file.name, name, reason: "a dimension of \(size)")
        }
        shape.insert(Int(size), at: 0)
      }
      let type = GGUFTensorType(code: try reader.integer())
      entries.append(Entry(name: name, type: type, shape: shape, offset: try reader.integer()))
    }
    return entries
  }

  private static func alignment(_ metadata: [String: GGUFValue], file: String) throws -> Int {
    guard let value = metadata["general.alignment"] else { return 32 }
    guard case .integer(let alignment) = value, 8...65_536 ~= alignment, alignment & (alignment - 1) == 0 else {
      throw ModelError(file, "general.alignment", reason: "not a power of two from 8 to 65536")
    }
    return alignment
  }

  /// Turns the directory's offsets into byte ranges of the file.
  /// - Throws: `ModelError` naming a tensor that is not aligned, not inside the file or overlaps another
  private static func resolve(
    _ entries: [Entry], dataStart: Int, alignment: Int, file: MappedFile
  ) throws -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for entry in entries {
      func failure(_ reason: String) -> ModelError { ModelError(file.name, entry.name, reason: reason) }
      guard entry.offset % UInt64(alignment) == 0 else { throw failure("offset \(entry.offset) is not aligned") }
      guard entry.shape.reduce(1.0, { $0 * Double($1) }) < 0x1p53 else { throw failure("shape too large") }
      var range: Range<Int>?
      if let block = entry.type.block {
        guard let columns = entry.shape.last, columns % block.elements == 0 else {
          throw failure("rows of \(entry.shape.last ?? 0) elements are no whole number of \(entry.type) blocks")
        }
        let bytes = entry.shape.dropLast().reduce(columns / block.elements * block.bytes, *)
        let available = file.count - dataStart
        guard available >= 0, entry.offset <= UInt64(available), bytes <= available - Int(entry.offset) else {
          throw failure("truncated: \(bytes) bytes at \(entry.offset) of the data, of which the file has \(available)")
        }
        let start = dataStart + Int(entry.offset)
        range = start..<(start + bytes)
      }
      tensors[entry.name] = Tensor(name: entry.name, type: entry.type, shape: entry.shape, byteRange: range)
    }
    var end = dataStart
    let ranges = tensors.values.compactMap { tensor in tensor.byteRange.map { (tensor.name, $0) } }
    for (name, range) in ranges.sorted(by: { $0.1.lowerBound < $1.1.lowerBound }) {
      guard range.lowerBound >= end else { throw ModelError(file.name, name, reason: "overlaps another tensor") }
      end = range.upperBound
    }
    return tensors
  }
}

extension GGUFFile {
  /// Reads rows of a tensor, dequantised to f32. All dimensions but the last count as rows.
  /// - Parameter destination: at least `rows.count × columns` floats
  /// - Throws: `ModelError` for a type that cannot be read, and for a file that was made shorter meanwhile
  public func readRows(
    _ name: String, rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>
  ) throws {
    guard let tensor = tensors[name] else { throw ModelError(file.name, name, reason: "missing") }
    guard let block = tensor.type.block, let range = tensor.byteRange else {
      throw ModelError(file.name, name, reason: "type \(tensor.type) is not supported")
    }
    guard rows.lowerBound >= 0, rows.upperBound <= tensor.rows, destination.count >= rows.count * tensor.columns else {
      throw ModelError(file.name, name, reason: "rows \(rows) of \(tensor.rows) into \(destination.count) floats")
    }
    let blocks = rows.count * (tensor.columns / block.elements)
    let start = range.lowerBound + rows.lowerBound * (tensor.columns / block.elements) * block.bytes
    let step = max(1, (1 << 18) / block.bytes)
    try withUnsafeTemporaryAllocation(byteCount: min(step, blocks) * block.bytes, alignment: 64) { buffer in
      for first in stride(from: 0, to: blocks, by: step) {
        let count = min(step, blocks - first)
        let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * block.bytes)])
        try file.read(offset: start + first * block.bytes, into: piece)
        let target = destination[(first * block.elements)..<((first + count) * block.elements)]
        GGUFDequantizer.dequantize(
          UnsafeRawBufferPointer(piece), type: tensor.type, into: UnsafeMutableBufferPointer(rebasing: target))
      }
    }
  }

  private func array(_ key: String) throws -> GGUFArray? {
    guard let value = metadata[key] else { return nil }
    guard case .array(let array) = value else { throw ModelError(file.name, key, reason: "not an array") }
    guard array.count <= Self.elementLimit else {
      throw ModelError(file.name, key, reason: "\(array.count) elements, more than \(Self.elementLimit)")
    }
    return array
  }

  /// The elements of an array of one of some types; `nil` if there is no such key.
  private func elements<Element>(
    _ key: String, of types: Set<GGUFValueType>, _ what: String, _ read: (inout GGUFReader) throws -> Element
  ) throws -> [Element]? {
    guard let array = try array(key) else { return nil }
    guard types.contains(array.elementType) else { throw ModelError(file.name, key, reason: "not an array of \(what)") }
    var reader = GGUFReader(file: file, offset: array.offset)
    return try (0..<array.count).map { _ in try read(&reader) }
  }

  /// An array of strings; `nil` if there is no such key.
  func strings(_ key: String) throws -> [String]? { try elements(key, of: [.string], "strings") { try $0.string() } }

  /// An array of 32-bit integers, signed or not; `nil` if there is no such key.
  func integers(_ key: String) throws -> [Int32]? {
    try elements(key, of: [.int32, .uint32], "32-bit integers") { Int32(bitPattern: try $0.integer(UInt32.self)) }
  }

  /// An array of booleans, which may be stored as 32-bit integers 0 and 1; `nil` if there is no such key.
  func booleans(_ key: String) throws -> [Bool]? {
    guard let array = try array(key) else { return nil }
    if array.elementType == .bool { return try elements(key, of: [.bool], "booleans") { try $0.bool() } }
    guard let flags = try integers(key), flags.allSatisfy({ $0 == 0 || $0 == 1 }) else {
      throw ModelError(file.name, key, reason: "not an array of booleans")
    }
    return flags.map { $0 == 1 }
  }

  /// An array of bytes, signed or not; `nil` if there is no such key.
  func bytes(_ key: String) throws -> [UInt8]? {
    guard let array = try array(key) else { return nil }
    guard array.elementType == .int8 || array.elementType == .uint8 else {
      throw ModelError(file.name, key, reason: "not an array of bytes")
    }
    return Array(try file.read(offset: array.offset, count: array.count))
  }

  /// An array of f32; `nil` if there is no such key.
  func floats(_ key: String) throws -> [Float]? { try elements(key, of: [.float32], "f32") { try $0.float() } }
}
