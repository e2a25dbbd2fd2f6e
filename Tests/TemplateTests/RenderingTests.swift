import Template
import Testing

@Suite struct RenderingTests {
  @Test func everyTemplateRendersAsInJinja() throws {
    let chats = try Fixtures.chats()
    var count = 0
    for template in try Fixtures.members("renderings.json") {
      let source = try Fixtures.source(template.key)
      guard case .object(let expected) = template.value else { throw FixtureError() }
      for member in expected.members {
        var variables = try #require(chats[member.key])
        variables["add_generation_prompt"] = .bool(!["answered", "calls", "system"].contains(member.key))
        let found = Expected(rendering: source, variables)
        #expect(found == Expected(member.value), "\(template.key), \(member.key)")
        count += 1
      }
    }
    #expect(count > 700)
  }

  @Test func everyExpressionIsAsInJinja() throws {
    guard case .object(let file) = try Fixtures.value("expressions.json"), case .object(let given)? = file["variables"],
      case .array(let cases)? = file["cases"]
    else { throw FixtureError() }
    let variables = Dictionary(uniqueKeysWithValues: given.members.map { ($0.key, $0.value) })
    for item in cases {
      guard case .array(let pair) = item, case .string(let source) = pair[0] else { throw FixtureError() }
      #expect(Expected(rendering: source, variables) == Expected(pair[1]), "\(source)")
    }
    #expect(cases.count > 800)
  }

  /// Filters and functions that jinja2 has for web pages are errors that name them.
  @Test(arguments: [
    "filesizeformat", "urlencode", "escape", "forceescape", "striptags", "xmlattr", "urlize", "groupby",
  ])
  func unsupportedFiltersAreNamed(_ filter: String) {
    let expected = TemplateError(
      kind: .syntax, line: 2, reason: "the filter '\(filter)' is not supported in chat templates")
    #expect(throws: expected) { try ChatTemplate(source: "a\n{{ x | \(filter) }}") }
    #expect(throws: TemplateError(kind: .runtime, line: 1, reason: expected.reason)) {
      try ChatTemplate(source: "{{ [1] | map('\(filter)') }}").render([:], now: Fixtures.now)
    }
  }

  @Test(arguments: ["cycler", "joiner"])
  func unsupportedFunctionsAreNamed(_ function: String) {
    let expected = TemplateError(
      kind: .runtime, line: 1, reason: "the function '\(function)' is not supported in chat templates")
    #expect(throws: expected) {
      try ChatTemplate(source: "{{ \(function)('a') }}").render([:], now: Fixtures.now)
    }
  }
}
