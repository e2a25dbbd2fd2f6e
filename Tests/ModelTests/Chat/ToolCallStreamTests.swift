import Formats
import TestSupport
import Testing

@testable import Model

/// Calls that are told while they are being written are those that the parser finds.
@Suite struct ToolCallStreamTests {
  /// An answer as its stream tells it.
  private struct Told: Equatable {
    var text = ""
    var calls: [ToolCall] = []
    /// Whether the last call was cut.
    var isCut = false
    /// How many parts the arguments came in.
    var argumentParts = 0

    /// Adds parts, which must be in their order.
    mutating func add(_ found: (text: String, parts: [ToolCallPart]), _ isOpen: inout Bool) {
      text += found.text
      for part in found.parts {
        switch part {
        case .begin(let name):
          #expect(!isOpen)
          isOpen = true
          calls.append(ToolCall(name: name, arguments: ""))
        case .arguments(let text):
          #expect(isOpen)
          calls[calls.count - 1].arguments += text
          argumentParts += 1
        case .end(let isComplete):
          #expect(isOpen)
          (isOpen, isCut) = (false, !isComplete)
        }
      }
    }
  }

  private func told(_ form: ToolCallForm, _ pieces: [String], isCertain: Bool = true) -> Told {
    var stream = ToolCallStream(form, names: ["f", "weather"], isCertain: isCertain)
    var (told, isOpen) = (Told(), false)
    for piece in pieces { told.add(stream.push(piece), &isOpen) }
    told.add(stream.finish(), &isOpen)
    #expect(!isOpen)
    return told
  }

  private func parsed(_ form: ToolCallForm, _ answer: String) -> (text: String, calls: [ToolCall]) {
    var parser = ToolCallParser(form, names: ["f", "weather"])
    let (first, last) = (parser.push(answer), parser.finish())
    return (first.text + last.text, first.calls + last.calls)
  }

  private static func cut(_ text: String, _ random: inout TinyRandom) -> [String] {
    var (pieces, rest) = ([String](), Substring(text))
    while !rest.isEmpty {
      let piece = rest.prefix(Int.random(in: 1...12, using: &random))
      pieces.append(String(piece))
      rest = rest.dropFirst(piece.count)
    }
    return pieces
  }

  /// Names as they are, and names in strings whose calls end as objects do.
  private static let marked = [
    ToolCallForm.marked(
      CallMarks(
        opening: [.special("[C]")], beforeArguments: [.optional([.special("[I]"), .id]), .special("[A]")],
        between: [.special("[C]")], closing: [])),
    .marked(
      CallMarks(
        namesAreStrings: true, opening: [.text("<c>{\"tool\": \"")], beforeArguments: [.text("\", \"with\": ")],
        between: [.text("}, {\"tool\": \"")], closing: [.text("}</c>")])),
    .marked(
      CallMarks(
        callsAreObjects: true, opening: [.text("<c>[")], between: [.text(", ")], closing: [.text("]</c>")])),
    .marked(
      CallMarks(
        opening: [.text("<f=")], beforeArguments: [.text(">")], between: [.text("</f> <f=")], closing: [.text("</f>")])),
  ]

  private static let answers: [(ToolCallForm, String)] = {
    let numbers = "[1, -0, 2.50, 1e3, true ,null ]"
    let path = #""a\/b\u00e9\ud83d\ude00.txt""#
    let arguments = #"{ "path" : \#(path), "n": \#(numbers), "o": {"</tool_call>": "\"{}[],:"} }"#
    let object = #"{"name": "f", "arguments": \#(arguments)}"#
    let typed = #"{"type": "function", "name": "weather", "parameters": {"city": "Zürich 😀"}}"#
    let short = "<tool_call>{\"name\":\"weather\",\"arguments\":{}}</tool_call>"
    let turned = "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>"
    return [
      (.tagged, "<tool_call>\n\(object)\n</tool_call>"),
      (.tagged, "Let me see.\n<tool_call>\(object)</tool_call>\n\(short) Then."),
      (.tagged, "<tool_call>\(object)"), (.tagged, "<tool_call>{\"name\": \"g\"}</tool_call>"),
      (.tagged, "\(turned)\n<tool_call>\(object)</tool_call>"),
      (.tagged, "<tool_call>{\"function\": \(object)}</tool_call><tool_call>{\"name\": \"f\"}</tool_call>"),
      (.bare, typed), (.bare, "So:\n\(typed); \(object)\n"), (.bare, "[\(typed), \(object)]"),
      (.bare, "[\(typed), {\"name\": \"f\"}, \(object)]"), (.bare, "```json\n\(object)\n\(typed)\n```"),
      (.bare, "Use {\"type\": 1} and {\"name\": \"g\", \"parameters\": {}}."), (.bare, "{\"name\": \"f\"}; \(object)"),
      (marked[0], "[C]f[A]\(arguments)"), (marked[0], "Well. [C]f[I]x1[A] \(arguments) [C]weather[A]{} Then."),
      (marked[0], "[C]weather[A]{}[C]f[A]{\"[C]f[A]{\": 1}[C]weather[A]{\"a\":1}"),
      (marked[0], "[C]g[A]{}[C]f[A]3[C]f"),
      (marked[3], "<f=f>{}</f> <f=weather>\(arguments)</f>"), (marked[3], "<f=f>{}</f> <f=g>{}</f>"),
      (marked[3], "<f=f>{}</f> <f=f"),
      (marked[1], "<c>{\"tool\": \"f\", \"with\": \(arguments)}</c> Then."),
      (marked[1], "So: <c>{\"tool\":\"weather\",\"with\":{}}, {\"tool\": \"f\", \"with\": \(arguments)}"),
      (marked[2], "So: <c>[\(object), {\"name\": \"weather\", \"arguments\": {}}]</c>"),
    ]
  }()

  @Test func everyCutGivesTheCallsOfTheParser() {
    var random = TinyRandom(seed: 8)
    for (form, answer) in Self.answers {
      let whole = parsed(form, answer)
      var cuts = [[answer], answer.map(String.init)] + (0..<60).map { _ in Self.cut(answer, &random) }
      cuts += (1..<answer.count).map { [String(answer.prefix($0)), String(answer.dropFirst($0))] }
      for pieces in cuts {
        for isCertain in [true, false] {
          let told = told(form, pieces, isCertain: isCertain)
          #expect(told.text == whole.text && told.calls == whole.calls && !told.isCut, "\(pieces): \(told)")
          if !isCertain { #expect(told.argumentParts == told.calls.count) }
        }
      }
    }
  }

  /// What ends a call is no text, though another call might have followed it.
  @Test(arguments: [
    ("<f=f>{}</f> <f=g>{}</f>", "<f=g>{}</f>"), ("<f=f>{}</f> <f=f", "<f=f"), ("<f=f>{}</f> Then.", "Then."),
  ])
  func closingsAreNoText(answer: String, text: String) {
    let found = parsed(Self.marked[3], answer)
    #expect(found.calls.map(\.name) == ["f"] && found.text == text)
  }

  /// A line break ends a string that is none, so calls behind it are found.
  @Test func brokenArgumentsEndAtALineBreak() {
    let found = parsed(Self.marked[0], "[C]f[A]{\"a\": \"oops\nSorry: [C]f[A]{\"a\":1}")
    #expect(found.calls == [ToolCall(name: "f", arguments: "{\"a\":1}")] && found.text.hasSuffix("Sorry:"))
  }

  /// Nothing is held back but what is not complete.
  @Test(arguments: [
    (ToolCallForm.tagged, "<tool_call>{\"name\": \"f\", \"arguments\": "),
    (.bare, "{\"name\": \"f\", \"parameters\": "), (marked[0], "[C]f[A] "),
    (marked[1], "<c>{\"tool\": \"f\", \"with\": "), (marked[2], "<c>[{\"name\": \"f\", \"arguments\": "),
  ]) func argumentsComeAtOnce(form: ToolCallForm, head: String) {
    var stream = ToolCallStream(form, names: ["f"], isCertain: true)
    #expect(stream.push(head).parts.isEmpty)
    let pieces: [(String, [ToolCallPart])] = [
      ("{", [.begin(name: "f"), .arguments("{")]), ("\"a", [.arguments("\"a")]), ("b\": ", [.arguments("b\":")]),
      ("\"x\\", [.arguments("\"x")]), ("n", [.arguments("\\n")]), ("\\ud83d\\ude", []), ("00é", [.arguments("😀é")]),
      ("\", \"n\":", [.arguments("\",\"n\":")]), (" 1", []), ("2", []), ("}", [.arguments("12}")]),
    ]
    for (piece, parts) in pieces {
      let found = stream.push(piece)
      // Between a template's marks, a call ends with its arguments.
      #expect(
        found.text.isEmpty && found.parts.filter { $0 != .end(isComplete: true) } == parts, "\(piece): \(found)")
    }
  }

  /// One token may end a call and begin text, or another call.
  @Test func partsOfTheOpenCallComeBeforeText() {
    var stream = ToolCallStream(.tagged, names: ["f"], isCertain: true)
    _ = stream.push("<tool_call>{\"name\": \"f\", \"arguments\": {}}\n</tool_call")
    let found = stream.push(">. <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>")
    #expect(found.text == ".")
    let parts = found.parts
    #expect(parts == [.end(isComplete: true), .begin(name: "f"), .arguments("{\"a\":1}"), .end(isComplete: true)])
    #expect(parts.countOfOpenCall == 1)
    #expect(Array(parts[1...]).countOfOpenCall == 0 && [ToolCallPart]().countOfOpenCall == 0)
    #expect([ToolCallPart.arguments("1"), .arguments("2")].countOfOpenCall == 2)
  }

  /// Where a call could still be text, nothing of it is told before the parser has found it.
  @Test func callsThatMayBeTextAreHeld() {
    for (form, answer) in [
      (ToolCallForm.tagged, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"b\"} oh</tool_call>"),
      (.bare, "{\"name\": \"f\", \"parameters\": {\"a\": \"b\"}} is a call"),
    ] {
      let told = told(form, answer.map(String.init), isCertain: false)
      #expect(told == Told(text: answer))
    }
  }

  /// A call that the end of the answer cuts has been told as far as it was written, and is no text.
  @Test func callsThatAreCut() {
    let arguments = #"{"a": "</tool_call>", "b": [1, 2]}"#
    let head = #"{"name": "f", "arguments": "#
    let object = head + arguments + "}"
    for (form, before, head) in [
      (ToolCallForm.tagged, "Look. ", "<tool_call>" + head),
      (.tagged, "<tool_call>\(object)</tool_call>\n", "<tool_call>" + head),
      (.bare, "Look. ", head), (.bare, object + "; ", head),
      (Self.marked[0], "Look. ", "[C]f[A]"), (Self.marked[0], "[C]f[A]\(arguments)", "[C]f[I]x1[A]"),
      (Self.marked[1], "Look. ", "<c>{\"tool\": \"f\", \"with\": "), (Self.marked[2], "Look. ", "<c>[" + head),
    ] {
      let earlier = parsed(form, before)
      for length in 2...arguments.count {
        let begun = head + arguments.prefix(length)
        let told = told(form, (before + begun).map(String.init))
        #expect(told.text == earlier.text.trimmingSuffix(" "), "\(begun)")
        #expect(told.calls.count == earlier.calls.count + 1, "\(begun)")
        #expect(told.calls.dropLast() == earlier.calls[...])
        let last = told.calls.last?.arguments ?? ""
        #expect(#"{"a":"</tool_call>","b":[1,2]}"#.hasPrefix(last) && last.count > 1)
        #expect(told.isCut == !last.hasSuffix("}"))
      }
    }
  }

  /// What comes in pieces is what the whole is encoded as.
  @Test func valuesAreCompact() throws {
    var random = TinyRandom(seed: 5)
    let words = [
      "0", "-0", "12", "-3.50", "1E2", "1e-7", "123456789012345678901", "0.1000000000000000055", "true", "false",
      "null",
      #""""#, #""a\"b\\\/\b\f\n\r\t""#, #""\u0041\u00e9\u2028\ud83d\ude00""#, "\"\u{7F}é😀\"", #""\u007f""#,
    ]
    func value(_ depth: Int) -> String {
      func space() -> String { ["", " ", "\n\t"].randomElement(using: &random) ?? "" }
      switch depth > 3 ? 0 : Int.random(in: depth == 0 ? 1...2 : 0...2, using: &random) {
      case 1:
        let members = (0..<Int.random(in: 0...3, using: &random)).map {
          "\(space())\"k\($0)\"\(space()):\(space())\(value(depth + 1))\(space())"
        }
        return "{\(members.isEmpty ? space() : members.joined(separator: ","))}"
      case 2:
        let values = (0..<Int.random(in: 0...3, using: &random)).map { _ in space() + value(depth + 1) + space() }
        return "[\(values.isEmpty ? space() : values.joined(separator: ","))]"
      default: return words.randomElement(using: &random) ?? ""
      }
    }
    for _ in 0..<2000 {
      let text = value(0)
      var (writer, output, used) = (CompactJSONWriter(), [UInt8](), 0)
      for piece in Self.cut(text + " }]", &random) { used += writer.add(piece.utf8, to: &output) }
      #expect(writer.isComplete && used == text.utf8.count)
      let expected = try JSONValue.parse(text.utf8, subject: "text").encoded
      #expect(output == expected, "\(text): \(String(decoding: output, as: UTF8.self))")
    }
  }
}

extension String {
  fileprivate func trimmingSuffix(_ suffix: String) -> String {
    hasSuffix(suffix) ? String(dropLast(suffix.count)) : self
  }
}
