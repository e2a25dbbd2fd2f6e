import Template
import Testing

@Suite struct LimitTests {
  private func kind(_ source: String, limits: TemplateLimits = .default) -> TemplateError.Kind? {
    do throws(TemplateError) {
      _ = try ChatTemplate(source: source).render(["s": "x", "big": .int(.max)], now: Fixtures.now, limits: limits)
      return nil
    } catch { return error.kind }
  }

  @Test(arguments: [
    "{{ 'a' * 10 ** 12 }}", "{{ [0] * 10 ** 12 }}", "{{ 'a' * big }}",
    "{{ ('a' * 1000000).replace('', 'b' * 1000000) }}",
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "{{ 's'.center(10 ** 15) }}",
    "{{ 's' | indent(10 ** 12) }}",
    "{% for i in range(99999) %}{{ 'aaaaaaaaaa' * 1000 }}{% endfor %}", "{{ '%.9999999f' % 1 }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
  ])
  func hostileTemplatesAreStopped(_ source: String) { #expect(kind(source) == .limit) }

  @Test func sourcesThatNestTooDeeplyAreRefused() {
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("-", ""), ("not ", ""), ("1 if 1 else ", "")] {
      let source =
        "{{ " + String(repeating: open, count: 100_000) + "1" + String(repeating: close, count: 100_000) + " }}"
      #expect(kind(source) == .limit)
    }
    #expect(kind(String(repeating: "{% if 1 %}", count: 100_000)) == .limit)
    #expect(kind("{{ s" + String(repeating: ".a", count: 100_000) + " }}") == .limit)
    #expect(kind("{{ 1" + String(repeating: " + 1", count: 100_000) + " }}") == nil)
  }

  /// A chat's limits stop every template that does much with a text of many marks. They count steps, so no clock is needed.
  @Test(arguments: [
    "{% set t = (m[:1] ~ 'x') * 30000 %}{% for i in range(999) %}{% set y = t.split('x') | join('y') %}{% endfor %}",
    "{% set t = (m ~ 'x') * 100000 %}{% for i in range(999) %}{% set y = t.replace('x', 'yy') %}{% endfor %}",
    "{% set t = (m[:1] ~ 'x') * 30000 %}{% for i in range(99) %}{% set y = t | upper %}{% endfor %}",
    "{% set l = [1] * 50000 %}{% for i in range(99999) %}{% for x in l %}{% break %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ 1e300 | round(300) }}{% endfor %}",
  ])
  func whatAChatMayUse(_ source: String) {
    let limits = TemplateLimits.chat(inputBytes: 1000, depth: 200)
    let variables: [String: TemplateValue] = ["messages": [["role": "user", "content": "ab ab"]]]
    let error = #expect(throws: TemplateError.self) {
      try ChatTemplate(source: "{% set m = messages[0].content %}" + source).render(
        variables, now: Fixtures.now, limits: limits)
    }
    #expect(error?.kind == .limit)
  }

  /// Every published template renders long chats within a chat's limits.
  @Test(arguments: [(1, 10), (100, 200), (200, 200), (10, 20_000)])
  func publishedTemplatesStayWithinAChatsLimits(_ turns: Int, _ length: Int) throws {
    var messages: [TemplateValue] = []
    for turn in 0..<turns {
      messages.append(["role": "user", "content": .string(String(repeating: "word ", count: length / 5) + "\(turn)")])
      messages.append(["role": "assistant", "content": .string(String(repeating: "text ", count: length / 5))])
    }
    messages.append(["role": "user", "content": "end"])
    let variables: [String: TemplateValue] = [
      "messages": .array(messages), "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
    ]
    let limits = TemplateLimits.chat(inputBytes: 2 * turns * (length + 200), depth: 200)
    var count = 0
    for (name, source) in try Fixtures.templates() {
      let template = try ChatTemplate(source: source)
      guard (try? template.render(variables, now: Fixtures.now)) != nil else { continue }
      #expect(throws: Never.self, "\(name)") { try template.render(variables, now: Fixtures.now, limits: limits) }
      count += 1
    }
    #expect(count > 60)
  }

  @Test func longChainsAreFreed() {
    let source = """
      {% set ns = namespace() %}{% for i in range(20000) %}{% set p = ns.m %}{% macro m() %}{{ p }}{% endmacro %}\
      {% set ns.m = m %}{% endfor %}ok
      """
    #expect(kind(source) == nil)
  }

  @Test func errorsCarryLines() throws {
    for (source, line) in [("a\n\n{{ x.y }}", 3), ("{{ 1 }}\n{% nope %}", 2), ("\n{{\n\n raise_exception('no') }}", 4)]
    {
      #expect { try ChatTemplate(source: source).render([:], now: Fixtures.now) } throws: {
        ($0 as? TemplateError)?.line == line
      }
    }
    #expect(throws: TemplateError(kind: .refused, line: 1, reason: "no é")) {
      try ChatTemplate(source: "{{ raise_exception('no é') }}").render([:], now: Fixtures.now)
    }
  }
}
