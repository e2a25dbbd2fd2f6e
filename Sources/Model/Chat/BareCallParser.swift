import Formats

/// Parses calls that are JSON objects at the end of an answer, with space, line breaks or semicolons between them, or a list of
/// them. Text may stand before the calls, and a template's marks around them. If text follows them, they are text themselves.
///
/// Text is held back from where a call may begin, until it is certain that it is none.
struct BareCallParser: CallParser {
  private enum Phase {
    /// Text, in which a call may begin.
    case text
    /// Within a JSON value that may be a call.
    case value
    /// Within a JSON value that is none.
    case document
    /// After a call.
    case between
  }

  /// What the held bytes at a position begin.
  private enum Opening {
    /// A JSON value that begins like a call; the index of its first byte.
    case value(Int)
    /// No call.
    case other
    /// Undecided until more of the answer is known.
    case open
  }

  private let names: Set<String>
  private var phase = Phase.text
  /// The undecided end of the answer: space, the tag or fence before the first call, and calls.
  private var held: [UInt8] = []
  /// The calls in `held`. They are calls if nothing but space follows them.
  private var calls: [ToolCall] = []
  /// The index in `held` up to which it has been parsed.
  private var position = 0
  /// Where the current JSON value begins in `held`.
  private var valueStart = 0
  /// Reads the current JSON value.
  private var scanner = BracketScanner()
  /// Where the last string of the value begins in `held`.
  private var stringStart = 0
  /// The last key of the object that may be a call; `nil` if the next string is one.
  private var key: [UInt8]?
  /// The object has the name of a tool, or an object that may have it.
  private var isNamed = false
  /// The calls are in a Markdown code block whose end has not come yet.
  private var isFenced = false
  /// The calls are behind the template's mark, whose counterpart has not come yet.
  private var isMarked = false

  private static let fence = Array("```".utf8)
  /// What Llama 3.1 writes before a call.
  private static let tag = Array("<|python_tag|>".utf8)
  /// What the template writes before calls; empty for nothing.
  private let mark: [UInt8]
  /// What the template writes behind calls.
  private let closing: [CallMarks.Piece]
  /// What a call's object may begin with: its name first, the object that has it third.
  private static let keys = ["name", "type", "function", "parameters", "arguments", "id"].map {
    Array("\"\($0)\"".utf8)
  }

  /// - Parameters:
  ///   - names: of the tools that were offered; a call of another tool is text
  ///   - marks: what the template writes around calls
  init(names: Set<String>, marks: CallMarks? = nil) {
    self.names = names
    mark = Array((marks?.mark ?? "").utf8)
    closing = marks?.closingBehindList ?? []
  }

  var openCall: OpenCall? { phase == .value ? .json(held[valueStart...]) : nil }
  var pendingCalls: [ToolCall] { calls }

  mutating func push(_ piece: [UInt8]) -> (text: [UInt8], calls: [ToolCall]) {
    held += piece
    return (advance(isEnd: false), [])
  }

  mutating func finish() -> (text: [UInt8], calls: [ToolCall]) {
    let text = advance(isEnd: true)
    defer {
      held = []
      calls = []
    }
    return phase == .between ? (text, calls) : (text + held, [])
  }

  /// Moves held bytes to the text or to a call, up to the first byte whose meaning depends on bytes that have not come yet.
  /// - Parameter isEnd: the answer has ended
  /// - Returns: what is text
  private mutating func advance(isEnd: Bool) -> [UInt8] {
    var shown: [UInt8] = []
    while true {
      let continues =
        switch phase {
        case .text: readText(isEnd, &shown)
        case .value: readValue(isEnd, &shown)
        case .document: readDocument(isEnd, &shown)
        case .between: readBetween(isEnd, &shown)
        }
      if !continues { return shown }
    }
  }

  /// Makes everything parsed text, calls included.
  private mutating func giveUp(_ shown: inout [UInt8]) {
    shown += held[..<position]
    held.removeFirst(position)
    (position, calls, isFenced, isMarked, phase) = (0, [], false, false, .text)
  }

  private mutating func readText(_ isEnd: Bool, _ shown: inout [UInt8]) -> Bool {
    let start = held[position...].firstIndex { "{[<`".utf8.contains($0) } ?? held.count
    // Space before a call belongs to the call.
    let spaces = held[..<start].reversed().prefix(while: \.isSpace).count
    shown += held[..<(start - spaces)]
    held.removeFirst(start - spaces)
    position = spaces
    guard spaces < held.count else { return false }
    return open(isEnd, &shown)
  }

  /// Chooses the next phase by the text at `position`.
  private mutating func open(_ isEnd: Bool, _ shown: inout [UInt8]) -> Bool {
    switch opening(at: position) {
    case .open:
      // At the answer's end what is undecided is text.
      if isEnd { phase = .text }
      return false
    case .other:
      position += 1
      giveUp(&shown)
    case .value(let start):
      (valueStart, position, scanner) = (start, start, BracketScanner())
      phase = .value
    }
    return true
  }

  /// Reads to the end of a JSON value, or to where it turns out to be no call.
  private mutating func readValue(_ isEnd: Bool, _ shown: inout [UInt8]) -> Bool {
    while position < held.count {
      let (wasInString, callDepth) = (scanner.isInString, held[valueStart] == UInt8(ascii: "[") ? 2 : 1)
      guard readByte() else {
        giveUp(&shown)
        return true
      }
      if scanner.depth == callDepth, !scanner.isInString, !takeMember(endsString: wasInString) {
        giveUp(&shown)
        phase = .document
        return true
      }
      if !scanner.isComplete { continue }
      if let found = readCalls(held[valueStart..<position]) {
        calls += found
        phase = .between
      } else {
        giveUp(&shown)
      }
      return true
    }
    if isEnd { phase = .text }
    return false
  }

  /// Shows the rest of a JSON value.
  private mutating func readDocument(_ isEnd: Bool, _ shown: inout [UInt8]) -> Bool {
    while position < held.count, phase == .document {
      if !readByte() || scanner.isComplete { phase = .text }
    }
    shown += held[..<position]
    held.removeFirst(position)
    position = 0
    if isEnd { phase = .text }
    return phase == .text && !held.isEmpty
  }

  /// Reads one byte of a JSON value.
  /// - Returns: false if it is no JSON: a string cannot contain a line break
  private mutating func readByte() -> Bool {
    let wasInString = scanner.isInString
    position += 1
    guard scanner.read(held[position - 1]) else { return false }
    if scanner.isInString, !wasInString { stringStart = position - 1 }
    return true
  }

  /// Looks at the byte before `position`, which is in the object that may be a call and in no string.
  /// - Parameter endsString: it ends a string
  /// - Returns: false if the object is no call: its name is no tool's, or another member comes before its name
  private mutating func takeMember(endsString: Bool) -> Bool {
    switch held[position - 1] {
    case UInt8(ascii: "{"): (key, isNamed) = (nil, false)
    case UInt8(ascii: ","): key = nil
    default:
      guard endsString else { return true }
      let string = held[stringStart..<position]
      guard let key else {
        self.key = Array(string)
        if string.elementsEqual(Self.keys[2]) { isNamed = true }
        return isNamed || Self.keys.contains(Array(string))
      }
      if key == Self.keys[0] {
        isNamed = true
        return (try? JSONValue.parse(Array(string), subject: "name"))?.string.map(names.contains) ?? false
      }
    }
    return true
  }

  private func readCalls(_ json: ArraySlice<UInt8>) -> [ToolCall]? {
    guard let value = try? JSONValue.parseKeepingLast(json, subject: "call") else { return nil }
    let values = value.array ?? [value]
    let calls = values.compactMap { ToolCall($0, names: names) }
    return calls.count == values.count && !calls.isEmpty ? calls : nil
  }

  private mutating func readBetween(_ isEnd: Bool, _ shown: inout [UInt8]) -> Bool {
    while position < held.count, held[position].isSpace || held[position] == UInt8(ascii: ";") { position += 1 }
    guard position < held.count else { return false }
    if isFenced {
      let rest = held[position...]
      if rest.starts(with: Self.fence) {
        isFenced = false
        position += Self.fence.count
        return true
      }
      if Self.fence.starts(with: rest), !isEnd { return false }
    }
    if isMarked, !closing.isEmpty {
      switch CallMarks.match(closing[...], held[position...]) {
      case .full(let end):
        isMarked = false
        position = end
        return true
      case .partial where !isEnd: return false
      // Some models end their turn instead of writing the end.
      case .partial:
        position = held.count
        return false
      case .none: break
      }
    }
    return open(isEnd, &shown)
  }

  // MARK: what a call begins with

  private mutating func opening(at start: Int) -> Opening {
    var rest = held[start...]
    let leadIns = [mark, Self.fence, Self.tag].filter { $0.first == rest.first }
    let leadIn = leadIns.first { rest.starts(with: $0) } ?? []
    if leadIn.isEmpty, leadIns.contains(where: { $0.starts(with: rest) }) { return .open }
    if !leadIn.isEmpty {
      rest = rest.dropFirst(leadIn.count)
      if leadIn == Self.fence {
        // The name of a language, and a line break.
        let word = rest.prefix { (0x61...0x7A).contains($0) || $0 == UInt8(ascii: "_") }
        if word.count > 16 { return .other }
        rest = rest.dropFirst(word.count)
      }
      rest = rest.drop(while: \.isSpace)
      if rest.isEmpty { return .open }
    }
    let value = rest.startIndex
    if rest.first == UInt8(ascii: "[") { rest = rest.dropFirst().drop(while: \.isSpace) }
    if rest.isEmpty { return .open }
    guard rest.first == UInt8(ascii: "{") else { return .other }
    rest = rest.dropFirst().drop(while: \.isSpace)
    if rest.isEmpty { return .open }
    for key in Self.keys {
      if rest.starts(with: key) {
        if leadIn == Self.fence { isFenced = true }
        if leadIn == mark, !mark.isEmpty { isMarked = true }
        return .value(value)
      }
      if key.starts(with: rest) { return .open }
    }
    return .other
  }
}
