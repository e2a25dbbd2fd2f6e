import Template
import TestSupport
import Testing

/// No source makes the engine crash or hang: there is always a rendering or an error.
@Suite struct FuzzTests {
  private static let limits = TemplateLimits(steps: 20_000, allocatedBytes: 4 << 20, outputBytes: 1 << 18)

  private func run(_ source: String, _ variables: [String: TemplateValue]) -> Bool {
    do throws(TemplateError) {
      _ = try ChatTemplate(source: source).render(variables, now: Fixtures.now, limits: Self.limits)
      return true
    } catch { return false }
  }

  private static let tokens = """
    {{ }} {% %} {# #} {%- -%} {{- -}} if elif else endif for endfor in set endset macro endmacro call endcall filter \
    endfilter with endwith raw endraw generation endgeneration break continue block endblock recursive not and or is \
    defined none true messages message loop loop.index namespace ns ns.x x y m caller ( ) [ ] { } , : . | ~ + - * / // \
    ** % == != < > <= = 'a' "é" 0 1 -1 9223372036854775807 1.5 1e308 'aaaa' tojson trim upper join( split( range( \
    map( sort items() [::-1] [0] [1:] .x .content .strip() .format( '{}' '%s' '%d' * 99 selectattr( indent( \
    round( int replace( dict( first last length default(
    """.split(separator: " ").map(String.init)

  @Test func tokenSoup() throws {
    var generator = TinyRandom(seed: 1)
    let variables = try #require(try Fixtures.chats()["call"])
    var rendered = 0
    for _ in 0..<6000 {
      let count = Int.random(in: 1...24, using: &generator)
      var source = Bool.random(using: &generator) ? "{{ " : "{% "
      for _ in 0..<count {
        source += Self.tokens[Int.random(in: 0..<Self.tokens.count, using: &generator)]
        if Int.random(in: 0..<4, using: &generator) > 0 { source += " " }
      }
      source += source.hasPrefix("{{") ? " }}" : " %}"
      if run(source, variables) { rendered += 1 }
    }
    #expect(rendered > 0)
  }

  @Test func mutatedTemplates() throws {
    var generator = TinyRandom(seed: 2)
    let variables = try #require(try Fixtures.chats()["call"])
    let templates = try Fixtures.templates().map { Array($0.source.utf8) }.filter { $0.count < 8000 }
    var rendered = 0
    for round in 0..<1200 {
      var bytes = templates[round % templates.count]
      for _ in 0..<Int.random(in: 1...4, using: &generator) where bytes.count > 8 {
        let index = Int.random(in: 0..<bytes.count - 4, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes.removeSubrange(index..<index + Int.random(in: 1...4, using: &generator))
        case 1: bytes[index] = UInt8.random(in: 0...255, using: &generator)
        case 2:
          let token = Self.tokens[Int.random(in: 0..<Self.tokens.count, using: &generator)]
          bytes.insert(contentsOf: Array(token.utf8), at: index)
        default: bytes.removeLast(Int.random(in: 0..<bytes.count / 2, using: &generator))
        }
      }
      if run(String(decoding: bytes, as: UTF8.self), variables) { rendered += 1 }
    }
    #expect(rendered > 0)
  }
}
