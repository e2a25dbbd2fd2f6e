/// Where a part of a text came from: the index of a message, `toolSource`, or -2 - n for the n-th generation block.
typealias Source = Int32

/// The template's own text.
let noSource: Source = -1
/// The definitions of tools.
let toolSource = Source.max

/// A part of a text's bytes and its source. Parts of different sources may overlap.
struct Mark: Sendable {
  var start: Int
  var end: Int
  var source: Source
}

/// A Python string: UTF-8, compared by code points (whose order is that of the bytes), with the marks of its provenance.
struct Text: Sendable {
  var bytes: [UInt8]
  /// In order of their starts; none is empty.
  var marks: [Mark]
  /// Marked as safe (`|safe`, `|escape`): joined with `+`, the other side is HTML-escaped, as MarkupSafe does.
  var isMarkup = false

  init(bytes: [UInt8] = [], marks: [Mark] = []) {
    self.bytes = bytes
    self.marks = marks
  }

  init(_ string: String, source: Source = noSource) {
    bytes = Array(string.utf8)
    marks = source == noSource || bytes.isEmpty ? [] : [Mark(start: 0, end: bytes.count, source: source)]
  }

  init(bytes: [UInt8], source: Source) {
    self.bytes = bytes
    marks = source == noSource || bytes.isEmpty ? [] : [Mark(start: 0, end: bytes.count, source: source)]
  }

  var isEmpty: Bool { bytes.isEmpty }
  var string: String { String(decoding: bytes, as: UTF8.self) }

  /// The source that the whole text came from, if it is one message's.
  var wholeSource: Source {
    if let mark = marks.first(where: { $0.source >= 0 }), mark.start == 0, mark.end == bytes.count {
      return mark.source
    }
    return noSource
  }

  /// The message that the whole of these bytes came from.
  func source(of range: Range<Int>) -> Source {
    for mark in marks where mark.source >= 0 && mark.start <= range.lowerBound && mark.end >= range.upperBound {
      return mark.source
    }
    return noSource
  }

  subscript(range: Range<Int>) -> Text {
    if range.lowerBound == 0, range.upperBound == bytes.count { return self }
    var result = Text(bytes: Array(bytes[range]))
    result.isMarkup = isMarkup
    for mark in marks where mark.start < range.upperBound && mark.end > range.lowerBound {
      result.marks.append(
        Mark(
          start: max(mark.start, range.lowerBound) - range.lowerBound,
          end: min(mark.end, range.upperBound) - range.lowerBound, source: mark.source))
    }
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

  /// Appends bytes that stand for bytes `range` of `origin`, such as their escaped form.
  mutating func append(_ replacement: [UInt8], for origin: Text, _ range: Range<Int>) {
    guard !replacement.isEmpty else { return }
    if !origin.marks.isEmpty {
      for mark in origin.marks where mark.start <= range.lowerBound && mark.end >= range.upperBound {
        join(Mark(start: bytes.count, end: bytes.count + replacement.count, source: mark.source))
      }
    }
    bytes.append(contentsOf: replacement)
  }

  /// Appends a text with escaped forms in the place of characters that have one.
  /// - Parameter escape: what stands for the character at an index, if anything, and where the character ends
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
    guard !other.marks.isEmpty else { return }
    let shift = bytes.count - range.lowerBound
    for mark in other.marks where mark.start < range.upperBound && mark.end > range.lowerBound {
      join(
        Mark(
          start: max(mark.start, range.lowerBound) + shift, end: min(mark.end, range.upperBound) + shift,
          source: mark.source))
    }
  }

  /// Adds a mark behind the others; one that continues an earlier one goes into it.
  private mutating func join(_ mark: Mark) {
    for index in marks.indices.suffix(4) where marks[index].source == mark.source && marks[index].end == mark.start {
      marks[index].end = mark.end
      return
    }
    marks.append(mark)
  }

  /// Marks everything from `start` on as `source`'s, besides what marks there are.
  mutating func mark(from start: Int, source: Source) {
    guard start < bytes.count else { return }
    let mark = Mark(start: start, end: bytes.count, source: source)
    let place = marks.firstIndex { $0.start > start } ?? marks.count
    marks.insert(mark, at: place)
  }
}

extension Text: Equatable, Hashable {
  static func == (left: Text, right: Text) -> Bool { left.bytes == right.bytes }
  func hash(into hasher: inout Hasher) { hasher.combine(bytes) }
}

/// UTF-8's structure, on bytes that are known to be valid.
enum UTF8Bytes {
  @inline(__always) static func isContinuation(_ byte: UInt8) -> Bool { byte & 0xC0 == 0x80 }

  /// The bytes of the scalar that begins with `lead`.
  @inline(__always) static func length(lead: UInt8) -> Int {
    lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
  }

  /// The scalar at `index` and the index behind it; never reads beyond the end.
  static func scalar(_ bytes: [UInt8], at index: Int) -> (scalar: Unicode.Scalar, end: Int) {
    let lead = bytes[index]
    if lead < 0x80 { return (Unicode.Scalar(lead), index + 1) }
    let end = min(index + length(lead: lead), bytes.count)
    var value = UInt32(lead) & (lead < 0xE0 ? 0x1F : lead < 0xF0 ? 0x0F : 0x07)
    for next in (index + 1)..<max(end, index + 1) { value = value << 6 | UInt32(bytes[next] & 0x3F) }
    return (Unicode.Scalar(value) ?? "\u{FFFD}", max(end, index + 1))
  }

  /// The scalar that ends before `end`, and where it begins.
  static func scalar(_ bytes: [UInt8], before end: Int) -> (scalar: Unicode.Scalar, start: Int) {
    var start = end - 1
    while start > 0, isContinuation(bytes[start]) { start -= 1 }
    return (scalar(bytes, at: start).scalar, start)
  }

  /// Code points.
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
