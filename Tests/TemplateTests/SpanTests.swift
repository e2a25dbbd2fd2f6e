import Template
import Testing

@Suite struct SpanTests {
  private func spans(_ rendering: Rendering, message: Int) -> String {
    let bytes = Array(rendering.text.utf8)
    let ranges = rendering.messageSpans.first { $0.message == message }?.ranges ?? []
    return ranges.map { String(decoding: bytes[$0], as: UTF8.self) }.joined()
  }

  /// In every template, the marked text is the assistant's whole content, with or without the white space around it.
  @Test func contentIsMarkedInEveryTemplate() throws {
    let first = "  Grüße — one.\n"
    let second = "It's \"two\" 🎉"
    let variables: [String: TemplateValue] = [
      "messages": [
        ["role": "user", "content": "one."], ["role": "assistant", "content": .string(first)],
        ["role": "user", "content": "It's"], ["role": "assistant", "content": .string(second)],
      ],
      "bos_token": "<s>", "eos_token": "</s>",
    ]
    var count = 0
    for (name, source) in try Fixtures.templates() {
      guard let rendering = try? ChatTemplate(source: source).render(variables, now: Fixtures.now) else { continue }
      let trimmed = "Grüße — one."
      let found = spans(rendering, message: 1)
      #expect([first, trimmed, "Grüße — one.\n", "  Grüße — one."].contains(found), "\(name): \(found)")
      #expect(spans(rendering, message: 3) == second, "\(name)")
      #expect(rendering.messageSpans.map(\.message) == [0, 1, 2, 3], "\(name)")
      count += 1
    }
    #expect(count > 60)
  }

  @Test(arguments: [
    ("{{ messages[0].content | trim }}", "a<b c"), ("{{ messages[0].content.split('<')[1] }}", "b c "),
    ("{{ 'x' ~ messages[0].content[1:3] ~ 'y' }}", "a<"),
    ("{{ messages[0].content | replace('<', '&lt;') }}", " a&lt;b c "),
    ("{{ messages[0].content | upper | tojson }}", "\" A<B C \""), ("{{ '%s!' % messages[0].content }}", " a<b c "),
    ("{{ '[{}]'.format(messages[0].content) }}", " a<b c "),
    ("{% set x %}({{ messages[0].content }}){% endset %}{{ x }}", " a<b c "),
    ("{{ messages[0].tool_calls[0].arguments | tojson }}", #"{"n": 5, "s": ["é"]}"#),
    ("{% for k, v in messages[0].tool_calls[0].arguments | items %}<{{ k }}={{ v | string }}>{% endfor %}", "n5s['é']"),
    ("{% for w in messages[0].content.split() %}{{ w }},{% endfor %}", "a<bc"),
    ("{% macro m(x) %}<{{ x.content }}>{% endmacro %}{{ m(messages[0]) }}", " a<b c "),
    ("{{ messages[0].role }}{{ messages | length }}", ""), ("{{ messages[0].content | length }}", ""),
  ])
  func marksFollow(_ source: String, _ expected: String) throws {
    let message: TemplateValue = [
      "role": "assistant", "content": " a<b c ", "tool_calls": [["arguments": ["n": 5, "s": ["é"]]]],
    ]
    let rendering = try ChatTemplate(source: source).render(["messages": [message]], now: Fixtures.now)
    #expect(spans(rendering, message: 0) == expected)
  }

  @Test func generationBlocksAreSpans() throws {
    let source = """
      {% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>\
      {% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}
      """
    let rendering = try ChatTemplate(source: source).render(
      ["messages": [["role": "user", "content": "é"], ["role": "assistant", "content": "ok"]]], now: Fixtures.now)
    #expect(rendering.text == "<user>é<assistant>ok</s>")
    #expect(rendering.generationSpans == [19..<25])
    #expect(rendering.messageSpans == [.init(message: 0, ranges: [6..<8]), .init(message: 1, ranges: [19..<21])])
  }
}
