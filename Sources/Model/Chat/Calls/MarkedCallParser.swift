import Formats

/// Parses calls whose names and arguments stand between a template's marks, anywhere in the text.
struct MarkedCallParser: CallParser {
  private enum Phase {
    /// Text, in which calls may begin.
    case text
    /// Where a name is expected, behind the opening or behind another call.
    case name(isFirst: Bool)
    /// Within arguments.
    case arguments
    /// Behind arguments.
    case end
  }

  private let marks: CallMarks
  private let mark: [UInt8]
  /// The names of the tools that were offered, and how they are written; the longest first.
  private let names: [(name: String, bytes: [UInt8])]
  private var phase = Phase.text
  /// The undecided end of the answer.
  private var held: [UInt8] = []
  /// Only space has come since the last call.
  private var isBehindCall = false
  private var name = ""
  /// Where the arguments begin in `held`, and up to where they were read.
  private var (start, position) = (0, 0)
  /// Reads the arguments.
  private var scanner = BracketScanner()

  /// - Parameter names: of the tools that were offered; a call of another tool is text
  init(_ marks: CallMarks, names: Set<String>) {
    self.marks = marks
    mark = Array(marks.mark.utf8)
    self.names = names.sorted { ($0.utf8.count, $0) > ($1.utf8.count, $1) }.map { ($0, marks.written($0)) }
  }

  var openCall: OpenCall? { if case .arguments = phase { .arguments(held[start...], name: name) } else { nil } }

  mutating func push(_ piece: [UInt8]) -> (text: [UInt8], calls: [ToolCall]) {
    held += piece
    return advance(isEnd: false)
  }

  mutating func finish() -> (text: [UInt8], calls: [ToolCall]) { advance(isEnd: true) }

  private mutating func advance(isEnd: Bool) -> (text: [UInt8], calls: [ToolCall]) {
    var shown: [UInt8] = []
    var calls: [ToolCall] = []
    while true {
      let continues =
        switch phase {
        case .text: readText(isEnd, &shown)
        case .name(let isFirst): readName(isFirst, isEnd, &shown)
        case .arguments: readArguments(isEnd, &shown, &calls)
        case .end: readEnd(isEnd)
        }
      if !continues { return (shown, calls) }
    }
  }

  private mutating func readText(_ isEnd: Bool, _ shown: inout [UInt8]) -> Bool {
    // Space after a call belongs to the call.
    if isBehindCall {
      held.removeFirst(held.prefix(while: \.isSpace).count)
      if held.isEmpty { return false }
    }
    let found = held.indices.first { held[$0] == mark[0] && held[$0...].starts(with: mark) }
    var end = found ?? (isEnd ? held.count : held.count - held.lengthOfBeginning(of: mark))
    // Space before a call belongs to the call, too.
    if found != nil || !isEnd { while end > 0, held[end - 1].isSpace { end -= 1 } }
    if end > 0 { isBehindCall = false }
    shown += held[..<end]
    held.removeFirst(found ?? end)
    if found != nil { phase = .name(isFirst: true) }
    return found != nil
  }

  /// Shows held bytes that turned out to be in no call.
  private mutating func show(_ count: Int, _ shown: inout [UInt8]) {
    shown += held[..<count]
    held.removeFirst(count)
    (isBehindCall, phase) = (false, .text)
  }

  private mutating func readName(_ isFirst: Bool, _ isEnd: Bool, _ shown: inout [UInt8]) -> Bool {
    switch head(isFirst ? marks.opening : marks.between ?? []) {
    case .partial where !isEnd: return false
    case .partial, .none:
      // The marks between two calls have come, but no name of a tool behind them. They may begin with the mark that closes
      // the calls, which is no text either.
      if !isFirst, case .full(let end) = CallMarks.match(marks.closing[...], held[...]) {
        held.removeFirst(end)
        phase = .text
      } else {
        show(1, &shown)
      }
    case .full(let end):
      (start, position, scanner) = (end, end, BracketScanner())
      phase = .arguments
    }
    return true
  }

  /// Compares what is held with the marks, a name and what comes before its arguments. Keeps the name.
  private mutating func head(_ opening: [CallMarks.Piece]) -> CallMarks.Match {
    let match = CallMarks.match(opening[...], held[...])
    guard case .full(let begin) = match else { return match }
    var found = CallMarks.Match.none
    let rest = held[begin...]
    for (name, bytes) in names where found == .none {
      if rest.starts(with: bytes) {
        found = CallMarks.match(marks.beforeArguments[...], rest.dropFirst(bytes.count))
        if found != .none { self.name = name }
      } else if bytes.starts(with: rest) {
        found = .partial
      }
    }
    guard case .full(let end) = found else { return found }
    let spaces = held[end...].prefix(while: \.isSpace)
    if spaces.count > CallMarks.maximumSpace { return .none }
    if spaces.endIndex == held.count { return .partial }
    return held[spaces.endIndex] == UInt8(ascii: "{") ? .full(spaces.endIndex) : .none
  }

  private mutating func readArguments(_ isEnd: Bool, _ shown: inout [UInt8], _ calls: inout [ToolCall]) -> Bool {
    while position < held.count {
      position += 1
      guard scanner.read(held[position - 1]) else {
        show(position, &shown)
        return true
      }
      if !scanner.isComplete { continue }
      guard let value = try? JSONValue.parseKeepingLast(held[start..<position], subject: "call"), value.object != nil
      else {
        show(position, &shown)
        return true
      }
      calls.append(ToolCall(name: name, arguments: String(decoding: value.encoded, as: UTF8.self)))
      held.removeFirst(position)
      (isBehindCall, phase) = (true, .end)
      return true
    }
    // Not searched for other calls: each might be searched to the end of the answer.
    if isEnd { show(held.count, &shown) }
    return false
  }

  /// Reads what comes between two calls, or after the last one. A missing closing is no matter.
  private mutating func readEnd(_ isEnd: Bool) -> Bool {
    if let between = marks.between {
      switch CallMarks.match(between[...], held[...]) {
      case .full:
        phase = .name(isFirst: false)
        return true
      case .partial where !isEnd: return false
      default: break
      }
    }
    switch CallMarks.match(marks.closing[...], held[...]) {
    case .full(let end): held.removeFirst(end)
    case .partial where !isEnd: return false
    case .partial: held = []
    case .none: break
    }
    phase = .text
    return true
  }
}
