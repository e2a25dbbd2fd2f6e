import Grammars
import Model
import TestSupport
import Testing

@testable import Serve

/// Grammars are kept for later requests, within one limit of memory.
@Suite struct GrammarCacheTests {
  private let model: TinyModel

  init() throws { model = try TinyModel(TinyShape(layers: 1)) }

  @Test func equalConstraintsHaveOneGrammar() throws {
    let cache = GrammarCache(try model.tokenizer())
    let first = try cache.compiled(TextConstraint.choice(["a", "b"]), param: "guided_choice").grammar
    #expect(try cache.compiled(TextConstraint.choice(["a", "b"]), param: "guided_choice").grammar === first)
    #expect(try cache.compiled(TextConstraint.choice(["a", "c"]), param: "guided_choice").grammar !== first)
  }

  /// Grammars that no request uses make room; those of running requests do not.
  @Test func grammarsShareALimitOfMemory() throws {
    let cache = GrammarCache(try model.tokenizer(), maximumMemory: 1)
    for text in ["a", "b", "c"] { _ = try cache.compiled(TextConstraint.choice([text]), param: "guided_choice") }
    let running = try cache.compiled(TextConstraint.choice(["d"]), param: "guided_choice")
    let error = #expect(throws: APIError.self) {
      _ = try cache.compiled(TextConstraint.choice(["e"]), param: "guided_choice")
    }
    #expect(error?.status == 503)
    withExtendedLifetime(running) {}
  }

  /// A grammar that is known has the warnings that it was compiled with.
  @Test func warningsAreKept() throws {
    let cache = GrammarCache(try model.tokenizer())
    let tool = ToolConstraint.Tool(name: "f", parameters: "{\"foo\":1}", isStrict: false, index: 0)
    let constraint = ToolConstraint(tools: [tool], form: .tagged, isRequired: false, isParallel: false)
    for _ in 0..<2 {
      #expect(try cache.compiled(constraint, param: "tools").warnings.first?.contains("#/foo") == true)
    }
  }

  @Test func toolsShareABudget() throws {
    let cache = GrammarCache(try model.tokenizer())
    let key = String(repeating: "k", count: 50_000)
    let tools = (0..<128).map {
      ToolConstraint.Tool(
        name: "tool\($0)", parameters: "{\"properties\":{\"\(key)\":{\"const\":\"\(key)\"}}}", isStrict: true, index: $0
      )
    }
    let constraint = ToolConstraint(tools: tools, form: .tagged, isRequired: true, isParallel: true, text: nil)
    let error = #expect(throws: APIError.self) { _ = try cache.compiled(constraint, param: "tools") }
    #expect(error?.message.contains("units of work") == true)
  }
}
