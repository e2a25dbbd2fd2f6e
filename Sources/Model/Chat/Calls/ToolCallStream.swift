/// A part of a tool call in an answer. A call is a `begin`, the texts of `arguments`, which together are a JSON object, and an
/// `end`.
public enum ToolCallPart: Sendable, Equatable {
  /// A call of the tool with this name begins.
  case begin(name: String)
  /// Further arguments.
  case arguments(String)
  /// The call has ended.
  /// - Parameter isComplete: false if the answer has ended within its arguments
  case end(isComplete: Bool)
}

extension Array where Element == ToolCallPart {
  /// How many parts belong to a call that began before them. Text that comes with the parts stands behind these, and before the
  /// others.
  public var countOfOpenCall: Int {
    if case .begin = first { return 0 }
    let end = firstIndex { if case .end = $0 { true } else { false } }
    return end.map { $0 + 1 } ?? count
  }
}

/// Finds tool calls in an answer while it is being generated, as `ToolCallParser` does, and tells those that are certain part by
/// part.
///
/// What begins like a call may turn out to be text. Only where the caller knows that it cannot, a call is told while it is being
/// written; else when the parser has found it. The arguments are the same in both cases, but for keys that an object has twice: of
/// these the parser keeps the last.
public struct ToolCallStream: Sendable {
  private var parser: ToolCallParser
  private let names: Set<String>
  private let isCertain: Bool
  /// Reads the JSON that the parser is reading.
  private var reader: CallReader?
  /// How many calls the parser had found before that.
  private var foundBefore = 0
  /// How many calls the parser has returned.
  private var returned = 0
  /// How many calls have begun, and how many have ended.
  private var begun = 0
  private var ended = 0

  /// - Parameters:
  ///   - form: in which the model writes calls
  ///   - names: of the tools that were offered; a call of another tool is text
  ///   - isCertain: whether a text that begins as a call of one of the tools is sure to be one
  public init(_ form: ToolCallForm, names: Set<String>, isCertain: Bool) {
    parser = ToolCallParser(form, names: names)
    (self.names, self.isCertain) = (names, isCertain)
  }

  /// Adds text to the answer.
  /// - Returns: the text and the parts of calls that are certain by now
  public mutating func push(_ piece: String) -> (text: String, parts: [ToolCallPart]) {
    let found = parser.push(piece)
    var parts: [ToolCallPart] = []
    read(&parts) { $0.add(piece.utf8, to: &$1) }
    tell(found.calls, &parts)
    guard isCertain else { return (found.text, parts) }
    let isText = endReading(&parts)
    if reader == nil, let call = parser.openCall {
      (reader, foundBefore) = (CallReader(names: names), foundCount)
      read(&parts) { $0.begin(call, &$1) }
    }
    return (isText ? "" : found.text, parts)
  }

  /// Ends the answer.
  /// - Returns: the text and the parts of calls that were held back until now
  public mutating func finish() -> (text: String, parts: [ToolCallPart]) {
    let found = parser.finish()
    // What the parser takes for text, or for other calls, is the call that has been told.
    if reader?.isInArguments == true { return ("", [.end(isComplete: false)]) }
    var parts: [ToolCallPart] = []
    tell(found.calls, &parts)
    return (endTold(&parts) ? "" : found.text, parts)
  }

  /// Adds the parts of complete calls that the parser has found and that were not returned before. Of a call whose beginning was
  /// returned while it was being written, that is its end.
  private mutating func tell(_ calls: [ToolCall], _ parts: inout [ToolCallPart]) {
    let first = returned
    returned += calls.count
    let pending = isCertain ? parser.pendingCalls : []
    while ended < returned + pending.count {
      let call = ended < returned ? calls[ended - first] : pending[ended - returned]
      if ended == begun {
        parts += [.begin(name: call.name), .arguments(call.arguments)]
        begun += 1
      }
      parts.append(.end(isComplete: true))
      ended += 1
    }
  }

  // MARK: the call that is being written

  /// Adds what the reader tells.
  private mutating func read(_ parts: inout [ToolCallPart], _ body: (inout CallReader, inout [ToolCallPart]) -> Void) {
    guard var reader else { return }
    var new: [ToolCallPart] = []
    body(&reader, &new)
    self.reader = reader
    for part in new {
      switch part {
      case .begin: begun += 1
      case .end: ended += 1
      case .arguments: break
      }
    }
    parts += new
  }

  /// How many calls the parser has found.
  private var foundCount: Int { returned + parser.pendingCalls.count }

  /// Ends reading if the parser has read what the reader reads.
  /// - Returns: whether the parser takes for text what has been told as a call
  private mutating func endReading(_ parts: inout [ToolCallPart]) -> Bool {
    let isOpen = parser.openCall != nil
    if !isOpen || reader?.isDone == true && foundCount > foundBefore { reader = nil }
    return isOpen ? false : endTold(&parts)
  }

  /// Ends what has been told as a call and is none for the parser. From here on calls are counted as the parser counts them; how
  /// many clients have seen is the answer's own count.
  /// - Returns: whether there is such
  private mutating func endTold(_ parts: inout [ToolCallPart]) -> Bool {
    let found = foundCount
    guard begun > found else { return false }
    if begun > ended { parts.append(.end(isComplete: true)) }
    (begun, ended) = (found, found)
    return true
  }
}
