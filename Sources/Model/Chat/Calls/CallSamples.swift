import Formats

/// A template's renderings of a chat that ends in one or two calls, from which the marks around calls are read.
struct CallSamples {
  /// The prompt for the answer.
  var prompt: String?
  /// The chat with an answer that is text.
  var answer: String
  /// The chat with one call.
  var one: String
  /// The chat with two calls; `nil` if the template refuses it.
  var two: String?
  /// The names of the two calls, which are in no other text.
  var names: [String]
  /// The ids of the two calls.
  var ids: [String]
  /// A key of both calls' arguments.
  var argument: String

  /// What stands around a name and its arguments.
  private struct Parts {
    /// Before the name, from the beginning of the turn or the end of the call before it.
    var lead: [UInt8]
    /// Between name and arguments.
    var middle: [UInt8]
    /// Behind the arguments, to the end of the turn.
    var tail: ArraySlice<UInt8>
  }

  /// A byte that is in no text: it stands for an id.
  private static let slot: UInt8 = 0xFF

  /// The form of the calls; `nil` if they are no names with JSON arguments behind a mark.
  /// - Parameter special: cuts a text into the pieces that its special tokens make of it
  func form(cut: (String) -> [CallMarks.Piece]) -> ToolCallForm? {
    let turn = Array(one.utf8)
    let start = start(turn)
    guard var first = parts(turn[start..<max(start, end(turn))], names[0]) else { return nil }
    var between: [UInt8]?
    if let two = two.map({ Array($0.utf8) }), two.starts(with: turn[..<start]),
      let head = parts(two[start..<max(start, end(two))], names[0]), var second = parts(head.tail, names[1]),
      second.tail.elementsEqual(first.tail)
    {
      Self.markNumber(&first.lead, &second.lead)
      Self.markNumber(&first.middle, &second.middle)
      let isMarked = second.lead.contains { !$0.isSpace }
      if isMarked, first.middle == second.middle { between = second.lead }
    }
    return Self.form(first, between, cut)
  }

  private static func form(
    _ parts: Parts, _ between: [UInt8]?, _ cut: (String) -> [CallMarks.Piece]
  ) -> ToolCallForm? {
    func pieces(_ bytes: some Sequence<UInt8>) -> [CallMarks.Piece] {
      Array(
        Array(bytes).split(separator: slot, omittingEmptySubsequences: false)
          .map { cut(String(decoding: $0, as: UTF8.self)) }.joined(separator: [CallMarks.Piece.id]))
    }
    let quote = UInt8(ascii: "\"")
    var marks = CallMarks(opening: [], between: nil, closing: [])
    if let object = objectStart(parts), let tail = parts.tail.firstIndex(of: UInt8(ascii: "}")) {
      marks.callsAreObjects = true
      marks.opening = pieces(parts.lead[..<object])
      marks.closing = pieces(parts.tail[(tail + 1)...])
      if let between, let begin = between.firstIndex(of: UInt8(ascii: "}")),
        let end = between.lastIndex(of: UInt8(ascii: "{")), begin < end
      {
        marks.between = pieces(between[(begin + 1)..<end])
      }
      if parts.lead[..<object].allSatisfy({ $0.isSpace || $0 == UInt8(ascii: "[") }) { return .bare }
      if marks.mark == "<tool_call>" { return .tagged }
      // Only a list may begin behind the mark.
      let rest = parts.lead[..<object].dropFirst(marks.mark.utf8.count).filter { !$0.isSpace }
      if !marks.mark.isEmpty, rest.isEmpty || rest == [UInt8(ascii: "[")] { return .marked(marks) }
      marks.callsAreObjects = false
    }
    marks.namesAreStrings = parts.lead.last == quote && parts.middle.first == quote
    marks.opening = pieces(parts.lead)
    marks.beforeArguments = optionalIDs(pieces(parts.middle))
    marks.between = between.map { pieces($0) }
    marks.closing = pieces(parts.tail)
    return marks.mark.isEmpty ? nil : .marked(marks)
  }

  /// Where the object of a call begins in what comes before its name: `{"name": "`, with `"type": "function"` before it or
  /// not. `nil` if the call is no object with `name` and `arguments` or `parameters`.
  private static func objectStart(_ parts: Parts) -> Int? {
    func packed(_ bytes: some Sequence<UInt8>) -> String {
      String(decoding: bytes.filter { !$0.isSpace }, as: UTF8.self)
    }
    guard [#"","arguments":"#, #"","parameters":"#].contains(packed(parts.middle)) else { return nil }
    guard let start = parts.lead.lastIndex(of: UInt8(ascii: "{")),
      [#"{"name":""#, #"{"type":"function","name":""#].contains(packed(parts.lead[start...]))
    else { return nil }
    return start
  }

  /// Models often leave out an id that has a special token of its own before it and another one behind it.
  private static func optionalIDs(_ pieces: [CallMarks.Piece]) -> [CallMarks.Piece] {
    guard let id = pieces.firstIndex(of: .id), id > 0, case .special = pieces[id - 1], id + 1 < pieces.count,
      case .special = pieces[id + 1]
    else { return pieces }
    return pieces[..<(id - 1)] + [.optional([pieces[id - 1], .id])] + pieces[(id + 1)...]
  }

  // MARK: the turn and its parts

  /// The byte where the turn begins: behind the prompt, and behind what an answer that is text begins with.
  private func start(_ turn: [UInt8]) -> Int {
    var start = zip(turn, answer.utf8).prefix { $0 == $1 }.count
    while start > 0, !Self.isBoundary(turn, start) { start -= 1 }
    if let prompt, turn.starts(with: prompt.utf8) { start = max(start, prompt.utf8.count) }
    while start < turn.count, turn[start].isSpace { start += 1 }
    return start
  }

  /// The byte where the turn ends: before what an answer that is text ends with.
  private func end(_ turn: [UInt8]) -> Int {
    var end = turn.count - zip(turn.reversed(), answer.utf8.reversed()).prefix { $0 == $1 }.count
    while end < turn.count, !Self.isBoundary(turn, end) { end += 1 }
    return end
  }

  /// Whether a token of a template may begin at a byte.
  private static func isBoundary(_ turn: [UInt8], _ index: Int) -> Bool {
    if index == 0 || turn[index - 1].isSpace || ">]".utf8.contains(turn[index - 1]) { return true }
    return index < turn.count && (turn[index].isSpace || turn[index] == UInt8(ascii: "<"))
  }

  /// Finds a call's name and its arguments, which are JSON. `nil` if they are not there.
  private func parts(_ turn: ArraySlice<UInt8>, _ name: String) -> Parts? {
    guard let name = Self.range(of: Array(name.utf8), in: turn),
      let key = Self.range(of: Array("\"\(argument)\"".utf8), in: turn[name.upperBound...]),
      let opening = turn[name.upperBound..<key.lowerBound].lastIndex(where: { !$0.isSpace }),
      turn[opening] == UInt8(ascii: "{"),
      let closing = turn[key.upperBound...].firstIndex(of: UInt8(ascii: "}")),
      let value = try? JSONValue.parse(Array(turn[opening...closing]), subject: "arguments"),
      value.object?.keys.elementsEqual([argument]) == true
    else { return nil }
    return Parts(
      lead: withSlots(turn[..<name.lowerBound]), middle: withSlots(turn[name.upperBound..<opening]),
      tail: withSlots(turn[(closing + 1)...])[...])
  }

  private func withSlots(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    var rest = bytes
    var result: [UInt8] = []
    while let first = rest.first {
      if let id = ids.first(where: { rest.starts(with: $0.utf8) }) {
        result.append(Self.slot)
        rest = rest.dropFirst(id.utf8.count)
      } else {
        result.append(first)
        rest = rest.dropFirst()
      }
    }
    return result
  }

  private static func range(of text: [UInt8], in bytes: ArraySlice<UInt8>) -> Range<Int>? {
    bytes.indices.first { bytes[$0...].starts(with: text) }.map { $0..<($0 + text.count) }
  }

  /// Puts an id where two texts that end alike have a number, the second one's greater by one.
  private static func markNumber(_ first: inout [UInt8], _ second: inout [UInt8]) {
    let common = zip(first.reversed(), second.reversed()).prefix { $0 == $1 }.count
    guard first.count > common, second.count > common else { return }
    let (a, b) = (first.count - common - 1, second.count - common - 1)
    guard (UInt8(ascii: "0")...UInt8(ascii: "8")).contains(first[a]), second[b] == first[a] + 1 else { return }
    (first[a], second[b]) = (slot, slot)
  }
}
