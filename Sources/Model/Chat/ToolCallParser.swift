/// Finds calls in an answer as it comes; what is none stays text, letter for letter.
public struct ToolCallParser: Sendable {
  private var parser: any CallParser

  /// - Parameter names: of the tools that were offered; a call of another is text
  public init(_ form: ToolCallForm, names: Set<String>) {
    parser =
      switch form {
      case .tagged: TaggedCallParser(names: names)
      case .bare: BareCallParser(names: names)
      }
  }

  /// Takes in a piece of the answer; returns what is certain by now.
  public mutating func push(_ piece: String) -> (text: String, calls: [ToolCall]) {
    let (text, calls) = parser.push(Array(piece.utf8))
    return (String(decoding: text, as: UTF8.self), calls)
  }

  /// Ends the answer.
  /// - Returns: the text and calls that were held back until now
  public mutating func finish() -> (text: String, calls: [ToolCall]) {
    let (text, calls) = parser.finish()
    return (String(decoding: text, as: UTF8.self), calls)
  }

}

/// Finds calls of one form in the bytes of an answer, which are UTF-8.
protocol CallParser: Sendable {
  /// Takes in a piece; returns what is certain by now.
  mutating func push(_ piece: [UInt8]) -> (text: [UInt8], calls: [ToolCall])
  /// Ends the answer.
  /// - Returns: the text and calls that were held back until now
  mutating func finish() -> (text: [UInt8], calls: [ToolCall])
}

/// Calls between tags, among text.
struct TaggedCallParser: CallParser {
  private enum Phase {
    /// Text, in which a call may begin.
    case text
    /// Behind an opening tag.
    case call
  }

  private let names: Set<String>
  private var phase = Phase.text
  private var held: [UInt8] = []
  /// Bytes of `held` in which the tag does not begin.
  private var searched = 0
  private var isBehindCall = false

  private static let opening = Array("<tool_call>".utf8)
  private static let closing = Array("</tool_call>".utf8)

  /// - Parameter names: of the tools that were offered; a call of another is text
  init(names: Set<String>) { self.names = names }

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
    // Some models end their turn in the place of the closing tag.
    if let call = ToolCall(json: held[...], names: names) { return ([], [call]) }
    return (Self.opening + held, [])
  }

  private mutating func step(_ shown: inout [UInt8], _ calls: inout [ToolCall]) -> Bool {
    if phase == .call {
      guard let end = find(Self.closing) else { return false }
      if let call = ToolCall(json: held[..<end], names: names) {
        calls.append(call)
        isBehindCall = true
      } else {
        shown += Self.opening + held[..<(end + Self.closing.count)]
      }
      drop(end + Self.closing.count)
      phase = .text
      return true
    }
    // The line break behind a call belongs to it.
    if isBehindCall {
      drop(held.prefix(while: Self.isSpace).count)
      if held.isEmpty { return false }
    }
    if let start = find(Self.opening) {
      let text = held[..<start]
      shown += text.prefix(text.count - text.reversed().prefix(while: Self.isSpace).count)
      drop(start + Self.opening.count)
      phase = .call
      isBehindCall = false
      return true
    }
    var end = held.count - Self.lengthOfBeginning(Self.opening, at: held)
    while end > 0, Self.isSpace(held[end - 1]) { end -= 1 }
    if end > 0 { isBehindCall = false }
    shown += held[..<end]
    drop(end)
    return false
  }

  private mutating func drop(_ count: Int) {
    held.removeFirst(count)
    searched = 0
  }

  private mutating func find(_ tag: [UInt8]) -> Int? {
    var index = searched
    while index + tag.count <= held.count {
      if held[index] == tag[0], held[index...].starts(with: tag) { return index }
      index += 1
    }
    searched = index
    return nil
  }

  /// Bytes at the end of `text` that the tag begins with.
  private static func lengthOfBeginning(_ tag: [UInt8], at text: [UInt8]) -> Int {
    for length in stride(from: min(tag.count - 1, text.count), to: 0, by: -1)
    where text.suffix(length).elementsEqual(tag.prefix(length)) { return length }
    return 0
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}
