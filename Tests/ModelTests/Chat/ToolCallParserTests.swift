import Model
import TestSupport
import Testing

@Suite struct ToolCallParserTests {
  private func run(_ form: ToolCallForm, _ pieces: [String]) -> (text: String, calls: [ToolCall]) {
    var parser = ToolCallParser(form, names: ["f", "weather"])
    var result: (text: String, calls: [ToolCall]) = ("", [])
    for piece in pieces {
      let (text, calls) = parser.push(piece)
      result.text += text
      result.calls += calls
    }
    let (text, calls) = parser.finish()
    return (result.text + text, result.calls + calls)
  }

  private let one = #"<tool_call>\#n{"name": "f", "arguments": {"a": [1, "é"]}}\#n</tool_call>"#
  private let call = ToolCall(name: "f", arguments: #"{"a":[1,"é"]}"#)

  @Test func taggedCalls() {
    let cases: [(String, String, [ToolCall])] = [
      (one, "", [call]), ("Let me see.\n\n" + one, "Let me see.", [call]), (one + "\n" + one, "", [call, call]),
      (one + "\n Then.", "Then.", [call]), ("a < b <tool", "a < b <tool", []), ("plain \n", "plain \n", []),
      ("<tool_call>{\"name\": \"g\"}</tool_call>!", "<tool_call>{\"name\": \"g\"}</tool_call>!", []),
      ("<tool_call>oh</tool_call> " + one, "<tool_call>oh</tool_call>", [call]),
      ("<tool_call>{\"name\": \"f\"}", "", [ToolCall(name: "f", arguments: "{}")]),
      ("<tool_call>{\"name\": \"f\"", "<tool_call>{\"name\": \"f\"", []),
      (
        "<tool_call>{\"name\": \"f\", \"arguments\": 3}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": 3}</tool_call>", []
      ),
    ]
    for (answer, text, calls) in cases {
      let whole = run(.tagged, [answer])
      #expect(whole.text == text && whole.calls == calls, "\(answer)")
      let letters = run(.tagged, answer.map(String.init))
      #expect(letters.text == text && letters.calls == calls, "\(answer), letter by letter")
    }
  }

  /// Strings of arguments may have the closing tag in them. If a string has no end, the tag was the call's, and nothing is lost.
  @Test func tagsInStrings() {
    let inStrings = #"{"a\\":"</tool_call>","b\"</tool_call>":["\\"]}"#
    let tagged = #"<tool_call>{"name": "f", "arguments": \#(inStrings)}</tool_call>"#
    let open = #"<tool_call>{"name": "f</tool_call>"#
    let cases: [(String, String, [ToolCall])] = [
      (tagged, "", [ToolCall(name: "f", arguments: inStrings)]),
      (tagged + one, "", [ToolCall(name: "f", arguments: inStrings), call]), (open, open, []),
      (open + one, open, [call]),
      (open + " and\n" + one + open + one, open + " and" + open, [call, call]), (open + " then", open + " then", []),
    ]
    for (answer, text, calls) in cases {
      let whole = run(.tagged, [answer])
      #expect(whole.text == text && whole.calls == calls, "\(answer)")
      let letters = run(.tagged, answer.map(String.init))
      #expect(letters.text == text && letters.calls == calls, "\(answer), letter by letter")
    }
  }

  @Test func keysThatRepeat() {
    let arguments = #"{"a": 1, "b": {"c": 2, "c": 3}, "a": 4}"#
    let calls = [ToolCall(name: "f", arguments: #"{"a":4,"b":{"c":3}}"#)]
    #expect(run(.tagged, [#"<tool_call>{"name": "f", "arguments": \#(arguments)}</tool_call>"#]).calls == calls)
    #expect(run(.bare, [#"{"name": "f", "parameters": \#(arguments)}"#]).calls == calls)
    let text = #"{\"a\": 1, \"a\": 2}"#
    #expect(
      run(.bare, [#"{"name": "f", "parameters": "\#(text)"}"#]).calls
        == [ToolCall(name: "f", arguments: #"{"a": 1, "a": 2}"#)])
  }

  @Test func bareCalls() {
    let object = #"{"name": "weather", "parameters": {"city": "Paris"}}"#
    let paris = ToolCall(name: "weather", arguments: #"{"city":"Paris"}"#)
    let cases: [(String, String, [ToolCall])] = [
      (object, "", [paris]), ("\n " + object + "\n", "", [paris]), (object + "; " + object, "", [paris, paris]),
      ("[\(object), \(object)]", "", [paris, paris]), ("It is {not} one.", "It is {not} one.", []),
      ("{\"answer\": 1}", "{\"answer\": 1}", []), (object + " and more", object + " and more", []),
      ("[\(object), 1]", "[\(object), 1]", []), ("", "", []), ("  ", "  ", []), ("[]", "[]", []),
    ]
    for (answer, text, calls) in cases {
      for pieces in [[answer], answer.map(String.init)] {
        let result = run(.bare, pieces)
        #expect(result.text == text && result.calls == calls, "\(answer)")
      }
    }
  }

  @Test func bareCallsBehindOneAnotherAndBehindText() {
    let sql = #"{"name": "f", "parameters": {"q": "select 1; select 2 {\""}}"#
    let first = ToolCall(name: "f", arguments: #"{"q":"select 1; select 2 {\""}"#)
    let object = #"{"name": "weather", "parameters": {"city": "Zürich 😀"}}"#
    let second = ToolCall(name: "weather", arguments: #"{"city":"Zürich 😀"}"#)
    let nested = #"{"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich 😀"}}}"#
    let cases: [(String, String, [ToolCall])] = [
      (sql + "; " + object, "", [first, second]), (sql + "\n" + object, "", [first, second]),
      (sql + " " + object + ";\n", "", [first, second]), (sql + object, "", [first, second]),
      ("Let me check.\n\n" + sql, "Let me check.", [first]), ("A {b} c: " + object, "A {b} c:", [second]),
      ("[1] see {\"a\": 2}: " + object, "[1] see {\"a\": 2}:", [second]),
      ("```json\n\(sql)\n\(object)\n```", "", [first, second]), ("So:\n```\n\(object)\n```\n", "So:", [second]),
      ("<|python_tag|>\(sql); \(object)", "", [first, second]), (nested, "", [second]), ("[\(nested)]", "", [second]),
      ("```swift\nlet a = [1]\n```", "```swift\nlet a = [1]\n```", []), ("a <b> `c` ``", "a <b> `c` ``", []),
      (sql + " and more; " + object, sql + " and more;", [second]),
      ("```json\n\(object)\n``` is what I call", "```json\n\(object)\n``` is what I call", []),
      (object + "; {\"name\": \"f\", \"par", object + "; {\"name\": \"f\", \"par", []),
      (object + "; {\"name\": \"unknown\"}", object + "; {\"name\": \"unknown\"}", []),
      ("{\"name\": \"f", "{\"name\": \"f", []), ("x {", "x {", []), ("<|python", "<|python", []),
      ("{\"name\": \"f\n\"} " + object, "{\"name\": \"f\n\"}", [second]),
    ]
    for (answer, text, calls) in cases {
      for pieces in [[answer], answer.map(String.init)] {
        let result = run(.bare, pieces)
        #expect(result.text == text && result.calls == calls, "\(answer): \(result)")
      }
    }
  }

  @Test func bareTextIsShownAsSoonAsItIsNoCall() {
    var parser = ToolCallParser(.bare, names: ["f"])
    #expect(parser.push("Use {").text == "Use")
    #expect(parser.push("x: 1} and {\"na").text == " {x: 1} and")
    #expect(parser.push("tion\": 2").text == " {\"nation\": 2")
    for (start, rest) in [
      ("{\"name\": \"Bob\"", ", \"pets\": [{\"name\": \"f\"}"), ("{\"type\": \"dog\", \"age\"", ": 3"),
      ("[{\"id\": 1, \"name\": \"\\u0042ob\"", "}, {\"name\": \"f\"}"),
    ] {
      var parser = ToolCallParser(.bare, names: ["f"])
      #expect(parser.push(start).text == start, "\(start)")
      #expect(parser.push(rest).text == rest, "\(start)")
      #expect(parser.finish().text.isEmpty, "\(start)")
    }
  }

  /// Text is shown as soon as it cannot be a call's beginning, and however it is cut the result is the same.
  @Test func anyCutGivesTheSame() {
    var parser = ToolCallParser(.tagged, names: ["f"])
    #expect(parser.push("Hello <").text == "Hello")
    #expect(parser.push("b> you").text == " <b> you")
    var random = TinyRandom(seed: 3)
    let parts = [
      "<tool_call>", "</tool_call>", "{\"name\": \"f\"}", "<tool_", "call>", " ", "\n", "text", "é", "<", "</",
      "{", "[", "]", ";", "```", "json", "<|python_tag|>", "{\"name\": \"f\"}; ", "\"",
    ]
    for _ in 0..<3000 {
      let answer = (0..<Int.random(in: 0...9, using: &random)).map { _ in parts.randomElement(using: &random) ?? "" }
      for form in [ToolCallForm.tagged, .bare] {
        let (pieces, whole) = (run(form, answer), run(form, [answer.joined()]))
        #expect(pieces.text == whole.text && pieces.calls == whole.calls, "\(answer)")
      }
    }
  }
}
