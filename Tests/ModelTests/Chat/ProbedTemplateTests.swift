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
    ("not m.content", "c.function.arguments | items | map('join', '=') | join", "get_weather city=Zurich"),
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

  /// Llama 3's template takes one call of a message.
  @Test func callsThatAreRefusedTogetherAreMessagesOfTheirOwn() throws {
    let template = """
      {% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one') }}{% endif %}\
      <{{ m.content }}{{ m.tool_calls[0].function.arguments | tojson }}{{ m.tool_calls[0].function.name }}>{% else %}\
      ({{ m.tool_call_id }}{{ m.content }}){% endif %}{% endfor %}{{ tools | length if tools }}
      """
    let format = try ChatFormat(try TinyTokenizer.with(specialTokens: []), template: template, name: "test")
    func result(_ id: String) -> JSONValue { ["role": "tool", "tool_call_id": .string(id), "content": "1"] }
    let calls = RealTemplate.calls(["Oslo", "Rome"], content: "Look: ")
    let chat = Conversation(
      messages: [RealTemplate.user("Hi"), calls, result("callRome1"), result("callOslo1"), result("other")])
    #expect(
      try format.render(chat)
        == "(Hi)<Look: {\"city\": \"Oslo\"}get_weather>(callOslo11)<{\"city\": \"Rome\"}get_weather>(callRome11)(other1)"
    )
    #expect(throws: ChatFormatError.refused("one")) { try format.labelled(chat) }
  }

  /// What the message says and thinks stands before its first call alone, and the splitting is told.
  @Test func theTextsOfASplitMessageAreShownOnce() throws {
    let template = """
      {% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one') }}{% endif %}\
      <{{ m.name }}{{ m.reasoning_content }}{{ m.content }}{{ m.tool_calls[0].function.arguments | tojson }}\
      {{ m.tool_calls[0].function.name }}>{% else %}({{ m.content }}){% endif %}{% endfor %}{{ tools }}
      """
    let format = try ChatFormat(try TinyTokenizer.with(specialTokens: []), template: template, name: "test")
    func chat(_ cities: [String]) -> Conversation {
      let pairs = RealTemplate.calls(cities, content: "Look: ").object?.pairs ?? []
      let more: [(key: String, value: JSONValue)] = [("name", "Bo"), ("reasoning_content", "Hm. ")]
      return Conversation(messages: [RealTemplate.user("Hi"), .object(JSONObject(keepingFirst: pairs + more))])
    }
    #expect(
      try format.render(chat(["Oslo", "Rome", "Bern"]))
        == "(Hi)<BoHm. Look: {\"city\": \"Oslo\"}get_weather><Bo{\"city\": \"Rome\"}get_weather>"
        + "<Bo{\"city\": \"Bern\"}get_weather>None")
    #expect(try format.prompt(chat(["Oslo"])).warnings == [])
    let warnings = try format.prompt(chat(["Oslo", "Rome"])).warnings
    #expect(warnings.count == 1 && warnings[0].contains("one call of a message"), "\(warnings)")
  }

  /// The published templates that refuse two calls are told from those that take them.
  @Test func splittingIsToldForPublishedTemplates() throws {
    let cities = ["Oslo", "Rome"]
    let messages = [RealTemplate.user("Hi"), RealTemplate.calls(cities)] + cities.map(RealTemplate.result)
    for (name, splits) in [("meta-llama-Llama-3.1-8B-Instruct", true), ("Qwen-Qwen3-0.6B", false)] {
      let template = try #require(try RealTemplate.all().first { $0.name == name + ".jinja" })
      let prompt = try template.format.prompt(Conversation(messages: messages, tools: [RealTemplate.tool]))
      let isTold = prompt.warnings.contains { $0.contains("one call of a message") }
      #expect(isTold == splits, "\(name): \(prompt.warnings)")
    }
  }

  /// Chats that published templates refuse by rules of their own: all without a variable of the template's, all without
  /// tools, or a system message.
  private static let refused: [(template: String, chat: String)] = [
    ("fireworks-ai-llama-3-firefunction-v2", ""),
    ("CohereForAI-c4ai-command-r-plus-tool_use", " without tools"),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", " without tools"),
    ("google-gemma-2-2b-it", "system without tools"), ("google-gemma-7b-it", "system without tools"),
    ("mistralai-Mistral-7B-Instruct-v0.1", "system without tools"),
    ("mistralai-Mistral-7B-Instruct-v0.2-no-system", "system without tools"),
    ("mistralai-Mixtral-8x7B-Instruct-v0.1", "system without tools"),
    // It shows calls of messages without text alone.
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "call with text without tools"),
  ]

  /// The model sees tools, calls and results with each of the published templates, whatever the client sends.
  @Test func publishedTemplatesShowCalls() throws {
    let (asked, answered) = ([RealTemplate.user("Hi there")], [RealTemplate.result("Oslo")])
    let id = JSONValue.string("call_" + String(repeating: "a0", count: 12))
    let openAIs: [JSONValue] = [
      [
        "role": "assistant",
        "tool_calls": [ChatMessage.toolCall(id: id.string, name: "get_weather", arguments: ["city": "Oslo"])],
      ],
      ["role": "tool", "tool_call_id": id, "name": "get_weather", "content": "{\"temperature\": 21}"],
    ]
    let chats: [(name: String, messages: [JSONValue])] = [
      ("call", asked + [RealTemplate.calls(["Oslo"])] + answered),
      ("call with OpenAI's id", asked + openAIs),
      ("call with null", asked + [RealTemplate.calls(["Oslo"], content: .null)] + answered),
      ("call without content", asked + [RealTemplate.calls(["Oslo"], content: nil)] + answered),
      ("call with text", asked + [RealTemplate.calls(["Oslo"], content: "Let me see.")] + answered),
      ("two calls", asked + [RealTemplate.calls(["Oslo", "Rome"])] + answered + [RealTemplate.result("Rome")]),
      ("another question", asked + [RealTemplate.calls(["Oslo"])] + answered + [RealTemplate.user("And?")]),
      ("system", [["role": "system", "content": "Be kind."]] + asked + [RealTemplate.calls(["Oslo"])] + answered),
    ]
    for template in try RealTemplate.all() {
      let format = try template.format
      for (name, messages) in chats {
        for tools in [[RealTemplate.tool], []] {
          let chatName = name + (tools.isEmpty ? " without tools" : "")
          let label = "\(template.name): \(chatName)"
          let chat = Conversation(messages: messages, tools: tools)
          let isRefused = Self.refused.contains {
            "\($0.template).jinja" == template.name && ($0.chat.isEmpty || chatName.contains($0.chat))
          }
          guard let prompt = try? format.prompt(chat),
            !prompt.warnings.contains(where: { $0.contains("does not know") })
          else {
            #expect(isRefused, "\(label)")
            continue
          }
          #expect(!isRefused, "\(label)")
          let text = try format.render(chat)
          var words = ["Hi there", "get_weather", "Oslo", "temperature"]
          if !tools.isEmpty { words.append("The weather of a place.") }
          if name == "two calls" { words.append("Rome") }
          if name == "another question" { words.append("And?") }
          // Some templates show it only before the last question.
          if name == "system", prompt.warnings.contains(where: { $0.contains("not show tools") }) {
            words.append("Be kind.")
          }
          for word in words { #expect(text.contains(word), "\(label): \(word)") }
        }
      }
    }
  }

  /// Mistral's templates take ids of nine letters and digits. A call and its result still have the same id.
  @Test func idsAreShortenedForTemplatesThatTakeNoOthers() throws {
    func format(_ check: String) throws -> ChatFormat {
      let template = """
        {% for m in messages %}{% set ids = m.tool_calls | map(attribute='id') | list if m.tool_calls else [m.tool_call_id] %}\
        {% for id in ids if id %}{% if \(check) %}{{ raise_exception('id') }}{% endif %}<{{ id }}>{% endfor %}\
        {{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{{ m.tool_calls[0].function.arguments }}{% endif %}\
        {% endfor %}
        """
      return try ChatFormat(try TinyTokenizer.with(specialTokens: []), template: template, name: "test")
    }
    func shown(_ id: String, _ format: ChatFormat) throws -> [String] {
      let call = ChatMessage.toolCall(id: id, name: "f", arguments: [:])
      let chat = Conversation(messages: [
        RealTemplate.user("Hi"), ["role": "assistant", "content": "", "tool_calls": [call]],
        ["role": "tool", "tool_call_id": .string(id), "content": "1"],
      ])
      return try format.render(chat).split(separator: "<").dropFirst().map { String($0.prefix { $0 != ">" }) }
    }
    let (strict, loose) = (try format("id | length != 9"), try format("false"))
    let ids = ["1", "call_0001"] + ["0", "1"].map { "call_" + String(repeating: $0, count: 24) }
    for id in ids {
      #expect(try shown(id, loose) == [id, id])
      let short = try shown(id, strict)
      #expect(short.count == 2 && short[0] == short[1] && short[0].count == 9, "\(id): \(short)")
      #expect(short[0].allSatisfy { $0.isLetter || $0.isNumber })
    }
    #expect(Set(try ids.flatMap { try shown($0, strict) }).count == ids.count)
    #expect(try shown("callOslo1", strict) == ["callOslo1", "callOslo1"])
  }

  /// A template that needs variables of its own gets them from the chat, and names what it misses.
  @Test func variablesOfATemplatesOwn() throws {
    let template = try #require(try RealTemplate.all().first { $0.name.contains("firefunction") })
    let format = try template.format
    var chat = Conversation(messages: [RealTemplate.user("Hi")])
    #expect { try format.render(chat) } throws: { ($0 as? ChatFormatError)?.message.contains("functions") == true }
    chat.variables = JSONObject(keepingFirst: [("functions", "[{\"name\": \"f\"}]"), ("datetime", "Monday")])
    let text = try format.render(chat)
    #expect(text.contains("\n[{\"name\": \"f\"}]\nToday is Monday."))
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
    #expect(try !speaking.prompt(chat).warnings.contains { $0.contains("not show") })
  }
}
