/// Reads little-endian values from a file in sequence, through a buffered part of it. Every read is checked against the
/// file's end.
struct GGUFReader {
  let file: MappedFile
  private(set) var offset = 0
  private var window: [UInt8] = []
  private var windowStart = 0

  private static let windowSize = 1 << 20
  /// Bytes of the strings that were read, all of which may be in memory.
  private var textBytes = 0
  /// The maximum of them. Published files have a few megabytes.
  private static let textLimit = 256 << 20
  /// Strings and arrays in arrays, which are passed over one by one.
  private var itemCount = 0
  /// The maximum of them. Published files have less than a million.
  private static let itemLimit = 1 << 25

  init(file: MappedFile, offset: Int = 0) {
    self.file = file
    self.offset = offset
  }

  var remaining: Int { file.count - offset }

  /// Calls `body` with the next `count` bytes, and advances past them.
  private mutating func next<T>(_ count: Int, _ body: (UnsafeRawBufferPointer) throws -> T) throws -> T {
    guard count <= remaining else {
      throw ModelError(file.name, reason: "truncated: \(count) bytes wanted at byte \(offset), \(remaining) left")
    }
    if offset < windowStart || offset + count > windowStart + window.count {
      window = try file.read(offset: offset, count: min(max(count, Self.windowSize), remaining))
      windowStart = offset
    }
    let start = offset - windowStart
    offset += count
    return try window.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start..<(start + count)])) }
  }

  mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws -> T {
    try next(MemoryLayout<T>.size) { T(littleEndian: $0.loadUnaligned(as: T.self)) }
  }

  mutating func float() throws -> Float { Float(bitPattern: try integer()) }
  mutating func double() throws -> Double { Double(bitPattern: try integer()) }

  mutating func bool() throws -> Bool {
    let byte = try integer(UInt8.self)
    guard byte <= 1 else { throw ModelError(file.name, reason: "a boolean of value \(byte) at byte \(offset - 1)") }
    return byte == 1
  }

  /// Reads a count or a length.
  /// - Throws: `ModelError` if it is more than `limit`
  mutating func count(limit: Int, of what: String) throws -> Int {
    let value = try integer(UInt64.self)
    guard value <= UInt64(max(0, limit)) else {
      throw ModelError(file.name, reason: "\(value) \(what), more than fit into the file")
    }
    return Int(value)
  }

  mutating func string() throws -> String {
    let length = try count(limit: remaining - 8, of: "bytes of a string")
    let start = offset
    textBytes += length
    guard textBytes <= Self.textLimit else {
      throw ModelError(file.name, reason: "more than \(Self.textLimit) bytes of strings, at byte \(start)")
    }
    let text = try next(length) { String(validating: $0, as: UTF8.self) }
    guard let text else { throw ModelError(file.name, reason: "the string at byte \(start) is not UTF-8") }
    if text.hasMarks(moreThan: String.longestRunOfMarks) {
      throw ModelError(
        file.name,
        reason: "the string at byte \(start) has more than \(String.longestRunOfMarks) combining marks in a row")
    }
    return text
  }

  mutating func skip(_ count: Int) throws {
    guard count >= 0, count <= remaining else {
      throw ModelError(file.name, reason: "truncated: \(count) bytes wanted at byte \(offset), \(remaining) left")
    }
    offset += count
  }

  /// Counts strings or arrays of an array before they are passed over.
  /// - Throws: `ModelError` if the file has so many that this would take seconds
  mutating func willPassOver(_ items: Int) throws {
    // Each takes bytes of the file, so the sum cannot overflow.
    itemCount += items
    guard itemCount <= Self.itemLimit else {
      throw ModelError(
        file.name, reason: "more than \(Self.itemLimit) strings and arrays in arrays of metadata, at byte \(offset)")
    }
  }

  mutating func skipString() throws { try skip(count(limit: remaining - 8, of: "bytes of a string")) }
}
