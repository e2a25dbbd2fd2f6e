import Formats
import Model
import TestSupport
import Testing

/// Past calls are put as the template reads them.
@Suite struct ProbedTemplateTests {
  private let arguments = "{\"city\": \"Zurich\"}"

  private func text(_ template: String, _ message: JSONValue) throws -> String {
    let format = try ChatFormat(try TinyTokenizer.with(specialTokens: []), template: template, name: "test")
    let chat = Conversation(
      messages: [RealTemplate.user("Hi"), message, RealTemplate.result("Oslo")],
      // A template that shows no tools gets their definitions, and calls, in other messages.
      tools: template.contains("tools") ? [RealTemplate.tool] : [], addsGenerationPrompt: false)
    return try format.render(chat)
  }

  private func call(_ content: JSONValue?, _ arguments: JSONValue) -> JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [("role", "assistant")]
    if let content { pairs.append(("content", content)) }
    pairs.append(
      (
        "tool_calls",
        [["id": "callOslo1", "type": "function", "function": ["name": "get_weather", "arguments": arguments]]]
      ))
    return .object(JSONObject(keepingFirst: pairs))
  }

  /// How templates tell a call from an answer, and how they write its arguments.
  @Test(arguments: [
    ("m.content is none", "c.function.arguments", "get_weather {\"city\": \"Zurich\"}"),
    ("m.content == ''", "c.function.arguments | tojson", "get_weather {\"city\": \"Zurich\"}"),
    ("m.content is not defined", "c.function.arguments + ''", "get_weather {\"city\": \"Zurich\"}"),
    ("not m.content", "c.function.arguments['city']", "get_weather Zurich"),
    (
      "m.content is string",
      "c.function.arguments if c.function.arguments is string else c.function.arguments | tojson",
      "get_weather {\"city\": \"Zurich\"}"
    ),
    (
      "m.tool_calls",
      "c.function.arguments if c.function.arguments is string else c.function.arguments | items | map('join', '=') | join",
      "get_weather city=Zurich"
    ),
  ])
  func everyFormOfACallIsShown(_ test: String, _ arguments: String, _ expected: String) throws {
    let template = """
      {% for m in messages %}{% if m.role == 'assistant' and \(test) %}{% for c in m.tool_calls %}\
      {{ c.function.name }} {{ \(arguments) }}{% endfor %}{% else %}{{ m.content }}{% endif %};{% endfor %}
      """
    let object: JSONValue = ["city": "Zurich"]
    for content: JSONValue? in ["", .null, nil] {
      for given in [object, .string(self.arguments)] {
        let found = try text(template, call(content, given))
        #expect(found == "Hi;\(expected);{\"temperature\": 21};")
      }
    }
  }

  /// A string of JSON that the client wrote stays as it is.
  @Test func argumentsKeepTheirText() throws {
    let template =
      "{% for m in messages %}{% for c in m.tool_calls %}{{ '>' + c.function.name + c.function.arguments }}{% endfor %}{% endfor %}"
    #expect(try text(template, call(nil, "{\"b\":1.50, \"a\": 2}")) == ">get_weather{\"b\":1.50, \"a\": 2}")
    #expect(
      try text(template, call(nil, ["b": ["x", true], "a": .null])) == ">get_weather{\"b\": [\"x\", true], \"a\": null}"
    )
  }

  /// Of the published templates those that can show calls do, whatever the client sends.
  @Test func publishedTemplatesShowCalls() throws {
    var shown: Set<String> = []
    var silent: Set<String> = []
    for template in try RealTemplate.all() {
      let format = try template.format
      for content: JSONValue? in ["", .null, nil] {
        let chat = Conversation(
          messages: [RealTemplate.user("Hi"), call(content, .string(arguments)), RealTemplate.result("Oslo")],
          tools: [RealTemplate.tool])
        guard let prompt = try? format.prompt(chat) else { continue }
        let text = try format.render(chat)
        if text.contains("Zurich") { shown.insert(template.name) } else { silent.insert(template.name) }
        #expect(
          text.contains("Zurich") == !prompt.warnings.contains { $0.contains("past tool calls") }, "\(template.name)")
      }
    }
    #expect(shown.isDisjoint(with: silent))
    #expect(shown.count > 50, "\(shown.count), not \(silent.sorted())")
  }

  @Test func whatDoesNotShowIsTold() throws {
    let tokenizer = try TinyTokenizer.with(specialTokens: [])
    let silent = try ChatFormat(
      tokenizer, template: "{% for m in messages %}{{ m.content }}{{ tools | length if tools }}{% endfor %}",
      name: "test")
    let talk = [RealTemplate.user("Hi")]
    #expect(try silent.prompt(Conversation(messages: talk)).warnings == [])
    let tools = try silent.prompt(Conversation(messages: talk, tools: [RealTemplate.tool])).warnings
    #expect(tools.count == 1 && tools[0].contains("does not show tools"))
    let calls = try silent.prompt(Conversation(messages: talk + [RealTemplate.call("Oslo")])).warnings
    #expect(calls.count == 1 && calls[0].contains("past tool calls"))
    let speaking = try ChatFormat(tokenizer, template: "{{ tools | tojson }}{{ messages | tojson }}", name: "test")
    let chat = Conversation(messages: talk + [RealTemplate.call("Oslo")], tools: [RealTemplate.tool])
    #expect(try speaking.prompt(chat).warnings == [])
  }
}
