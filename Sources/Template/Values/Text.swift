/// A Python string in UTF-8, with marks that say where its bytes came from. The order of bytes is that of code points.
struct Text: Sendable {
  var bytes: [UInt8]
  /// The ranges that came from messages and tools.
  private(set) var marks = Marks()
  /// The ranges that generation blocks rendered. A block inside another counts as part of the outer one.
  private(set) var blocks = Marks()
  /// Whether the filter `safe` was applied: what is then added with `+` is HTML-escaped, as MarkupSafe does.
  var isMarkup = false

  init(bytes: [UInt8] = []) { self.bytes = bytes }

  init(_ string: String, source: Source = noSource) { self.init(bytes: Array(string.utf8), source: source) }

  init(bytes: [UInt8], source: Source) {
    self.bytes = bytes
    if source != noSource, !bytes.isEmpty { marks.append(Mark(start: 0, end: bytes.count, source: source)) }
  }

  var isEmpty: Bool { bytes.isEmpty }
  var string: String { String(decoding: bytes, as: UTF8.self) }
  var markCount: Int { marks.count + blocks.count }

  /// The message, or the tools, that the whole text came from; `noSource` if it did not come from one alone.
  var wholeSource: Source { isEmpty ? noSource : source(of: 0..<bytes.count) }

  /// The message, or the tools, that all of these bytes came from; `noSource` if they did not come from one alone.
  func source(of range: Range<Int>) -> Source { marks.source(of: range) }

  subscript(range: Range<Int>) -> Text {
    if range.lowerBound == 0, range.upperBound == bytes.count { return self }
    var result = Text(bytes: Array(bytes[range]))
    result.isMarkup = isMarkup
    result.marks.append(marks, over: range, at: 0)
    result.blocks.append(blocks, over: range, at: 0)
    return result
  }

  mutating func append(_ other: Text) {
    appendMarks(of: other, over: 0..<other.bytes.count)
    bytes.append(contentsOf: other.bytes)
  }

  mutating func append(_ other: Text, _ range: Range<Int>) {
    appendMarks(of: other, over: range)
    bytes.append(contentsOf: other.bytes[range])
  }

  /// Appends bytes that replace bytes `range` of `origin`, such as their escaped form; they get the same marks.
  mutating func append(_ replacement: [UInt8], for origin: Text, _ range: Range<Int>) {
    guard !replacement.isEmpty else { return }
    func mark(_ source: Source) -> Mark {
      Mark(start: bytes.count, end: bytes.count + replacement.count, source: source)
    }
    let source = origin.marks.source(of: range)
    if source != noSource { marks.append(mark(source)) }
    let block = origin.blocks.source(of: range)
    if block != noSource { blocks.append(mark(block)) }
    bytes.append(contentsOf: replacement)
  }

  /// Appends a text, with some characters replaced by escaped forms.
  /// - Parameter escape: the escaped form of the character at an index, if it has one, and where the character ends
  mutating func append(_ other: Text, escaping escape: (_ index: Int) -> (form: String?, end: Int)) {
    var (plain, index) = (0, 0)
    while index < other.bytes.count {
      let (form, end) = escape(index)
      if let form {
        append(other, plain..<index)
        append(Array(form.utf8), for: other, index..<end)
        plain = end
      }
      index = end
    }
    append(other, plain..<other.bytes.count)
  }

  mutating func append(_ ascii: StaticString) {
    ascii.withUTF8Buffer { bytes.append(contentsOf: $0) }
  }

  mutating func append(_ string: String) { bytes.append(contentsOf: string.utf8) }

  private mutating func appendMarks(of other: Text, over range: Range<Int>) {
    if !other.marks.isEmpty { marks.append(other.marks, over: range, at: bytes.count) }
    if !other.blocks.isEmpty { blocks.append(other.blocks, over: range, at: bytes.count) }
  }

  /// Marks all bytes from `start` on as those of a message, of the tools or of a generation block.
  mutating func mark(from start: Int, source: Source) {
    guard start < bytes.count else { return }
    if source >= 0 {
      marks.cover(from: start, to: bytes.count, source: source)
    } else {
      blocks.cover(from: start, to: bytes.count, source: source)
    }
  }
}

extension Text: Equatable, Hashable {
  static func == (left: Text, right: Text) -> Bool { left.bytes == right.bytes }
  func hash(into hasher: inout Hasher) { hasher.combine(bytes) }
}

/// The structure of UTF-8. The bytes must be valid.
enum UTF8Bytes {
  @inline(__always) static func isContinuation(_ byte: UInt8) -> Bool { byte & 0xC0 == 0x80 }

  /// The bytes of the scalar that begins with `lead`.
  @inline(__always) static func length(lead: UInt8) -> Int {
    lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
  }

  /// The scalar at `index`, and the index after it. Never reads beyond the end.
  static func scalar(_ bytes: [UInt8], at index: Int) -> (scalar: Unicode.Scalar, end: Int) {
    let lead = bytes[index]
    if lead < 0x80 { return (Unicode.Scalar(lead), index + 1) }
    let end = min(index + length(lead: lead), bytes.count)
    var value = UInt32(lead) & (lead < 0xE0 ? 0x1F : lead < 0xF0 ? 0x0F : 0x07)
    for next in (index + 1)..<max(end, index + 1) { value = value << 6 | UInt32(bytes[next] & 0x3F) }
    return (Unicode.Scalar(value) ?? "\u{FFFD}", max(end, index + 1))
  }

  /// The scalar that ends at `end`, and where it begins.
  static func scalar(_ bytes: [UInt8], before end: Int) -> (scalar: Unicode.Scalar, start: Int) {
    var start = end - 1
    while start > 0, isContinuation(bytes[start]) { start -= 1 }
    return (scalar(bytes, at: start).scalar, start)
  }

  /// The number of code points.
  static func count(_ bytes: [UInt8]) -> Int {
    var count = 0
    for byte in bytes where !isContinuation(byte) { count += 1 }
    return count
  }
}

extension Unicode.Scalar {
  /// Python's `str.isspace` for one character.
  var isPythonSpace: Bool {
    switch value {
    case 9...13, 28...32, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
    default: false
    }
  }
}
