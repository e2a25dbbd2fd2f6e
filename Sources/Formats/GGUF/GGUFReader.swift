/// Reads little-endian values from a file in sequence, through a buffered part of it. Every read is checked against the
/// file's end.
struct GGUFReader {
  let file: MappedFile
  private(set) var offset = 0
  private var window: [UInt8] = []
  private var windowStart = 0

  private static let windowSize = 1 << 20
  private(set) var allowance: GGUFAllowance

  init(file: MappedFile, offset: Int = 0, allowance: GGUFAllowance = GGUFAllowance()) {
    self.file = file
    self.offset = offset
    self.allowance = allowance
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
    try allowance.take(text: length, at: start, file: file.name)
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

  /// Counts the tensors and metadata pairs that the file says it has.
  mutating func willRead(tensors: Int, pairs: Int) throws {
    try allowance.take(tensors: tensors, pairs: pairs, file: file.name)
  }

  /// Counts strings or arrays of an array before they are passed over.
  mutating func willPassOver(_ items: Int) throws {
    try allowance.take(items: items, at: offset, file: file.name)
  }

  mutating func skipString() throws { try skip(count(limit: remaining - 8, of: "bytes of a string")) }
}

/// How much of a model's GGUF metadata and directories may be in memory, and how much is: one file's, or all its parts'
/// together. The limits are far above every published file's. A sparse file of any size takes no room on the disk.
struct GGUFAllowance {
  /// Bytes of the strings that are read, all of which may be in memory. Published files have a few megabytes.
  var textLimit = 256 << 20
  /// Strings and arrays in arrays, which are passed over one by one. Published files have less than a million.
  var itemLimit = 1 << 25
  var tensorLimit = 1 << 17
  var pairLimit = 1 << 16

  private(set) var textBytes = 0
  private var itemCount = 0
  private var tensorCount = 0
  private var pairCount = 0

  /// Counts a string before it is read.
  /// - Parameters: its length, no more than the file's, and where it begins
  mutating func take(text length: Int, at offset: Int, file: String) throws {
    textBytes += length
    guard textBytes <= textLimit else {
      throw ModelError(file, reason: "more than \(textLimit) bytes of strings, at byte \(offset)")
    }
  }

  /// Counts strings or arrays of an array before they are passed over.
  /// - Throws: `ModelError` if there are so many that this would take seconds
  mutating func take(items: Int, at offset: Int, file: String) throws {
    // Each takes bytes of the file, so the sum cannot overflow.
    itemCount += items
    guard itemCount <= itemLimit else {
      throw ModelError(
        file, reason: "more than \(itemLimit) strings and arrays in arrays of metadata, at byte \(offset)")
    }
  }

  /// Counts a file's tensors and metadata pairs before they are read.
  mutating func take(tensors: Int, pairs: Int, file: String) throws {
    tensorCount += tensors
    pairCount += pairs
    guard tensorCount <= tensorLimit, pairCount <= pairLimit else {
      throw ModelError(
        file,
        reason: "\(tensorCount) tensors and \(pairCount) metadata pairs, more than \(tensorLimit) and \(pairLimit)")
    }
  }
}
