import Formats
import Grammars
import Model
import Testing

@testable import Serve

/// Which answers a chat's tools allow.
@Suite struct ToolConstraintTests {
  private static let vocabulary = TokenVocabulary(tokens: (0...255).map { [UInt8($0)] }, endTokens: [])

  private func tool(_ name: String, strict: Bool = false) -> ToolConstraint.Tool {
    let parameters =
      #"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}"#
    return .init(name: name, parameters: parameters, isStrict: strict, index: 0)
  }

  private func allows(_ constraint: ToolConstraint, _ text: String) throws -> Bool {
    var matcher = try GrammarMatcher(
      try CompiledGrammar(try constraint.grammar(CompilationBudget()), vocabulary: Self.vocabulary))
    return try matcher.accept(bytes: Array(text.utf8)) && matcher.canEnd()
  }

  private static let call = #"<tool_call>\#n{"name": "f", "arguments": {"n": 3}}\#n</tool_call>"#

  @Test func requiredCallsBetweenTags() throws {
    let constraint = ToolConstraint(
      tools: [tool("f"), tool("g")], form: .tagged, isRequired: true, isParallel: true)
    #expect(try allows(constraint, Self.call))
    #expect(try allows(constraint, Self.call + "\n" + Self.call.replacing("\"f\"", with: "\"g\"")))
    for text in [
      "", "Hello", "Hello " + Self.call, Self.call.replacing("3", with: "\"3\""), Self.call + " Hello",
      Self.call.replacing("\"f\"", with: "\"h\""),
    ] {
      #expect(try !allows(constraint, text), "\(text)")
    }
  }

  @Test func textBeforeCallsThatMayBeLeftOut() throws {
    var constraint = ToolConstraint(
      tools: [tool("f", strict: true)], form: .tagged, isRequired: false, isParallel: true)
    for text in ["", "Hello", "Hello " + Self.call + " and " + Self.call, "a < b", "<tool_"] {
      #expect(try allows(constraint, text), "\(text)")
    }
    #expect(try !allows(constraint, "<tool_call> whatever"))
    constraint.isParallel = false
    #expect(try allows(constraint, "Hello " + Self.call))
    #expect(try !allows(constraint, Self.call + Self.call))
  }

  @Test func bareCalls() throws {
    let call = #"{"name": "f", "parameters": {"n": 3}}"#
    var constraint = ToolConstraint(tools: [tool("f")], form: .bare, isRequired: true, isParallel: true)
    for text in [call, call + "; " + call, call + "\n" + call, call.replacing("parameters", with: "arguments")] {
      #expect(try allows(constraint, text), "\(text)")
    }
    for text in ["Hello", call + call, Self.call] { #expect(try !allows(constraint, text), "\(text)") }
    constraint.isRequired = false
    #expect(try allows(constraint, "Hello {}"))
    #expect(try !allows(constraint, "{}"))
    constraint.isParallel = false
    #expect(try !allows(constraint, call + "; " + call))
  }

  @Test func aDocumentInsteadOfCalls() throws {
    let constraint = ToolConstraint(
      tools: [tool("f")], form: .tagged, isRequired: false, isParallel: true, text: .choice(["yes", "no"]))
    #expect(try allows(constraint, "yes") && allows(constraint, Self.call))
    #expect(try !allows(constraint, "Hello"))
  }

  @Test func schemasThatCannotBeFollowed() throws {
    var tool = tool("f", strict: true)
    tool.parameters = ##"{"type":"object","properties":{"a":{"$dynamicRef":"#x"}}}"##
    let strict = ToolConstraint(tools: [tool], form: .tagged, isRequired: true, isParallel: false)
    let error = #expect(throws: ConstraintError.self) { try strict.grammar(CompilationBudget()) }
    #expect(error?.reason.contains("'f'") == true && error?.reason.contains("$dynamicRef") == true)
    tool.isStrict = false
    let loose = ToolConstraint(tools: [tool], form: .tagged, isRequired: true, isParallel: false)
    #expect(try allows(loose, Self.call.replacing("\"n\": 3", with: "\"any\": [1]")))
  }
}
