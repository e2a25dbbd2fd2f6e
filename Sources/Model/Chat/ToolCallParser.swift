/// Finds tool calls in an answer while it is being generated. What is no call stays text, unchanged.
public struct ToolCallParser: Sendable {
  private var parser: any CallParser

  /// - Parameters:
  ///   - form: in which the model writes calls
  ///   - names: of the tools that were offered; a call of another tool is text
  public init(_ form: ToolCallForm, names: Set<String>) {
    parser =
      switch form {
      case .tagged: TaggedCallParser(names: names)
      case .bare: BareCallParser(names: names)
      case .marked(let marks) where marks.callsAreObjects: BareCallParser(names: names, marks: marks)
      case .marked(let marks): MarkedCallParser(marks, names: names)
      }
  }

  /// Adds text to the answer.
  /// - Returns: the text and the calls that are certain by now
  public mutating func push(_ piece: String) -> (text: String, calls: [ToolCall]) {
    let (text, calls) = parser.push(Array(piece.utf8))
    return (String(decoding: text, as: UTF8.self), calls)
  }

  /// Ends the answer.
  /// - Returns: the text and the calls that were held back until now
  public mutating func finish() -> (text: String, calls: [ToolCall]) {
    let (text, calls) = parser.finish()
    return (String(decoding: text, as: UTF8.self), calls)
  }

  /// The text of a call that has begun and not ended. What follows may still show that it is no call. `nil` where none has begun.
  var openCall: OpenCall? { parser.openCall }
  /// Calls that are complete, and held back because what follows may make them text.
  var pendingCalls: [ToolCall] { parser.pendingCalls }
}

/// Finds calls of one form in the bytes of an answer, which are UTF-8.
protocol CallParser: Sendable {
  /// Adds bytes to the answer.
  /// - Returns: the text and the calls that are certain by now
  mutating func push(_ piece: [UInt8]) -> (text: [UInt8], calls: [ToolCall])
  /// Ends the answer.
  /// - Returns: the text and the calls that were held back until now
  mutating func finish() -> (text: [UInt8], calls: [ToolCall])
  /// The text of what has begun like a call and not ended.
  var openCall: OpenCall? { get }
  /// Complete calls that are held back.
  var pendingCalls: [ToolCall] { get }
}

extension CallParser {
  var openCall: OpenCall? { nil }
  var pendingCalls: [ToolCall] { [] }
}

/// Follows where JSON's strings begin and end.
private struct StringLexer {
  private(set) var isInString = false
  private var isEscaped = false

  mutating func take(_ byte: UInt8) {
    switch byte {
    // Control characters, such as the end of the line, are in no string (RFC 8259, section 7).
    case ..<0x20: (isInString, isEscaped) = (false, false)
    case _ where isEscaped: isEscaped = false
    case UInt8(ascii: "\\"): isEscaped = isInString
    case UInt8(ascii: "\""): isInString.toggle()
    default: break
    }
  }
}

/// Parses calls between tags, anywhere in the text.
struct TaggedCallParser: CallParser {
  private enum Phase {
    /// Text, in which a call may begin.
    case text
    /// After an opening tag.
    case call
  }

  private let names: Set<String>
  private var phase = Phase.text
  /// The undecided end of the answer.
  private var held: [UInt8] = []
  /// How many of the held bytes are known not to begin the tag that is looked for.
  private var searched = 0
  /// Only space has come since the last call.
  private var isBehindCall = false
  /// Where the search for the closing tag is in the call's JSON.
  private var lexer = StringLexer()
  /// The first closing tag that stands in a string of the call's JSON.
  private var firstInString: Int?
  /// False once a string turned out to have no end. Then each closing tag counts, so no answer is searched again and again.
  private var trustsStrings = true

  private static let opening = Array("<tool_call>".utf8)
  private static let closing = Array("</tool_call>".utf8)

  /// - Parameter names: of the tools that were offered; a call of another tool is text
  init(names: Set<String>) { self.names = names }

  var openCall: OpenCall? { phase == .call ? .json(held[...]) : nil }

  mutating func push(_ piece: [UInt8]) -> (text: [UInt8], calls: [ToolCall]) {
    held += piece
    var shown: [UInt8] = []
    var calls: [ToolCall] = []
    while step(&shown, &calls) {}
    return (shown, calls)
  }

  mutating func finish() -> (text: [UInt8], calls: [ToolCall]) {
    defer { held = [] }
    guard phase == .call else { return (held, []) }
    // Some models end their turn instead of writing the closing tag.
    if let call = ToolCall(json: held[...], names: names) { return ([], [call]) }
    guard let end = firstInString else { return (Self.opening + held, []) }
    // The string has no end, so the tag was the call's.
    var shown: [UInt8] = []
    var calls: [ToolCall] = []
    showCall(before: end, &shown)
    while step(&shown, &calls) {}
    let rest = finish()
    return (shown + rest.text, calls + rest.calls)
  }

  /// Parses up to the next tag.
  /// - Returns: false if more of the answer is needed
  private mutating func step(_ shown: inout [UInt8], _ calls: inout [ToolCall]) -> Bool {
    if phase == .call {
      guard let end = findClosing() else { return false }
      if let call = ToolCall(json: held[..<end], names: names) {
        calls.append(call)
        isBehindCall = true
        drop(end + Self.closing.count)
        phase = .text
      } else {
        showCall(before: firstInString ?? end, &shown)
      }
      return true
    }
    // Space after a call belongs to the call.
    if isBehindCall {
      drop(held.prefix(while: \.isSpace).count)
      if held.isEmpty { return false }
    }
    if let start = find(Self.opening) {
      let text = held[..<start]
      shown += text.prefix(text.count - text.reversed().prefix(while: \.isSpace).count)
      drop(start + Self.opening.count)
      phase = .call
      isBehindCall = false
      return true
    }
    var end = held.count - held.lengthOfBeginning(of: Self.opening)
    while end > 0, held[end - 1].isSpace { end -= 1 }
    if end > 0 { isBehindCall = false }
    shown += held[..<end]
    drop(end)
    return false
  }

  /// Shows what stands between two tags and is no call.
  private mutating func showCall(before end: Int, _ shown: inout [UInt8]) {
    if firstInString != nil { trustsStrings = false }
    shown += Self.opening + held[..<(end + Self.closing.count)]
    drop(end + Self.closing.count)
    phase = .text
  }

  private mutating func drop(_ count: Int) {
    held.removeFirst(count)
    searched = 0
    lexer = StringLexer()
    firstInString = nil
  }

  /// The index in `held` of the tag that closes a call. An argument's string may have the same letters.
  private mutating func findClosing() -> Int? {
    while searched + Self.closing.count <= held.count {
      let byte = held[searched]
      if byte == Self.closing[0], held[searched...].starts(with: Self.closing) {
        guard lexer.isInString, trustsStrings else { return searched }
        firstInString = firstInString ?? searched
      }
      lexer.take(byte)
      searched += 1
    }
    return nil
  }

  /// The index in `held` where a tag begins.
  private mutating func find(_ tag: [UInt8]) -> Int? {
    var index = searched
    while index + tag.count <= held.count {
      if held[index] == tag[0], held[index...].starts(with: tag) { return index }
      index += 1
    }
    searched = index
    return nil
  }
}
