import Formats
import Foundation
import Grammars
import Model
import TestSupport
import Testing
import Tokenization

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
    try allows(constraint, bytes: Array(text.utf8))
  }

  private func allows(_ constraint: ToolConstraint, bytes: [UInt8]) throws -> Bool {
    var warnings: [String] = []
    let grammar = try constraint.grammar(CompilationBudget(), warnings: &warnings)
    var matcher = try GrammarMatcher(try CompiledGrammar(grammar, vocabulary: Self.vocabulary))
    return try matcher.accept(bytes: bytes) && matcher.canEnd()
  }

  /// The text and the calls that clients get of an answer, which comes in pieces.
  private func parsed(_ form: ToolCallForm, _ answer: String, pieces: Int) -> (text: String, calls: [ToolCall]) {
    var parser = ToolCallParser(form, names: ["f", "g"])
    var result: (text: String, calls: [ToolCall]) = ("", [])
    func add(_ part: (text: String, calls: [ToolCall])) {
      result.text += part.text
      result.calls += part.calls
    }
    let letters = Array(answer)
    for start in stride(from: 0, to: letters.count, by: pieces) {
      add(parser.push(String(letters[start..<min(letters.count, start + pieces)])))
    }
    add(parser.finish())
    return result
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
    let (tag, list) = (TokenVocabulary.callTag + Array(call.utf8), "[\(call), \(call)]")
    #expect(try allows(constraint, list) && allows(constraint, bytes: tag))
    for text in ["Hello", call + call, Self.call] { #expect(try !allows(constraint, text), "\(text)") }
    constraint.isRequired = false
    #expect(try allows(constraint, "Hello {}"))
    #expect(try !allows(constraint, "{}"))
    constraint.isParallel = false
    #expect(try !allows(constraint, call + "; " + call))
  }

  /// Calls behind text are held to the schema, wherever and however they are written.
  @Test func bareCallsBehindText() throws {
    let call = #"{"name": "f", "parameters": {"n": 3}}"#
    let typed = #"{"type": "function", "name": "f", "parameters": {"n": 3}}"#
    var constraint = ToolConstraint(
      tools: [tool("f", strict: true)], form: .bare, isRequired: false, isParallel: true)
    let answers: [(text: String, calls: Int)] = [
      (call, 1), (typed, 1), ("I will look. " + call, 1), ("Well:\n\n\(call); \(typed)", 2),
      ("<|python_tag|>\(call)", 1), ("Here.\n```json\n\(call)\n```", 1), ("Both: [\(call), \(call)]", 2),
      ("A set {1, 2} and [3].", 0), ("He said \"name\": \"Bob\".", 0), (#"As JSON: {"name": "Bob", "id": 3}"#, 0),
      ("", 0),
    ]
    for answer in answers {
      #expect(try allows(constraint, answer.text), "\(answer.text)")
      for pieces in [1, 7, 10_000] {
        #expect(parsed(.bare, answer.text, pieces: pieces).calls.count == answer.calls, "\(answer.text)")
      }
    }
    // Clients would get these as calls whose arguments no schema was asked about.
    let wrong = call.replacing("3", with: "\"x\"")
    let loose = [
      wrong, "I will look. " + wrong, "\(call); \(wrong)", "Both: [\(call), \(wrong)]", "```json\n\(wrong)\n```",
      #"So: {"name" : "f"}"#, #"So: {"function": {"n\u0061me": "\u0066", "arguments": {}}}"#,
      #"So: {"id": 1, "name": "f", "arguments": {"x": 1}}"#, "<|python_tag|>\(wrong)",
    ]
    for answer in loose {
      #expect(!parsed(.bare, answer, pieces: 5).calls.isEmpty, "\(answer)")
      #expect(try !allows(constraint, answer), "\(answer)")
    }
    // Llama's tag as a special token is a mark that no text has.
    #expect(try allows(constraint, bytes: TokenVocabulary.callTag + Array(call.utf8)))
    #expect(try allows(constraint, bytes: Array("Look: ".utf8) + TokenVocabulary.callTag + Array(call.utf8)))
    for bytes in [TokenVocabulary.callTag, TokenVocabulary.callTag + Array(wrong.utf8), [0x61, 0xFF]] {
      #expect(try !allows(constraint, bytes: bytes))
    }
    constraint.isParallel = false
    for answer in answers where !answer.text.isEmpty {
      #expect(try allows(constraint, answer.text) == (answer.calls < 2), "\(answer.text)")
    }
    #expect(try !allows(constraint, "\(call) then \(call)"))
  }

  /// Where the template's marks are special tokens, their bytes stand for them.
  private func bytes(_ answer: String, _ special: [String]) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = answer[...]
    while let first = rest.first {
      if let mark = special.first(where: { rest.hasPrefix($0) }) {
        bytes += TokenVocabulary.special(mark)
        rest.removeFirst(mark.count)
      } else {
        bytes += Array(String(first).utf8)
        rest.removeFirst()
      }
    }
    return bytes
  }

  /// Forced calls are what published templates write, and calls behind text are held to the schema.
  @Test func callsBetweenMarks() throws {
    var checked: Set<String> = []
    for template in try RealTemplate.all() {
      let format = try template.format
      guard case .marked(let marks) = format.toolCallForm else { continue }
      let special = template.specialTexts.filter { text in
        format.callTokens.contains { template.tokenizer.tokenText($0) == text }
      }
      var tool = ToolConstraint.Tool(name: "get_weather", parameters: nil, isStrict: true, index: 0)
      tool.parameters = #"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#
      for cities in [["Oslo"], ["Oslo", "Rome"]] {
        let chat = Conversation(
          messages: [RealTemplate.user("Hi"), RealTemplate.calls(cities)], tools: [RealTemplate.tool],
          addsGenerationPrompt: false)
        guard let labelled = try? format.labelled(chat) else { continue }
        let turn = zip(labelled.tokens, labelled.messages).filter { $1 == 1 }.map(\.0)
          .filter { !format.endTokens.contains($0) && !template.tokenizer.eosTokens.contains($0) }
        let written = template.tokenizer.decode(turn, skippingSpecialTokens: false)
        guard let start = written.range(of: marks.mark)?.lowerBound else { continue }
        let end = written.lastIndex { !$0.isWhitespace } ?? written.startIndex
        // Models are not asked for ids of objects.
        let answer = String(written[start...end]).replacing(/, "id": "[a-zA-Z0-9]+"/, with: "")
        var constraint = ToolConstraint(
          tools: [tool], form: format.toolCallForm, isRequired: true, isParallel: true)
        #expect(try allows(constraint, bytes: bytes(answer, special)), "\(template.name): \(answer)")
        let wrong = answer.replacing("\"Oslo\"", with: "3")
        for answer in ["Hello", wrong, "Well. " + answer] {
          #expect(try !allows(constraint, bytes: bytes(answer, special)), "\(template.name): \(answer)")
        }
        constraint.isRequired = false
        for answer in ["Hello", answer, "Well. " + answer] {
          #expect(try allows(constraint, bytes: bytes(answer, special)), "\(template.name): \(answer)")
        }
        for answer in [wrong, "Well. " + wrong] {
          #expect(try !allows(constraint, bytes: bytes(answer, special)), "\(template.name): \(answer)")
        }
        constraint.isParallel = false
        #expect(
          try allows(constraint, bytes: bytes(answer, special)) == !answer.contains("Rome"),
          "\(template.name): \(answer)")
        checked.insert(template.name)
      }
    }
    #expect(checked.count > 10, "\(checked.sorted())")
  }

  /// Deltas of calls have the indices of the calls in the answer, in either form, whether they come while they are written or at
  /// their ends.
  @Test(arguments: [false, true]) func callsOfAConstrainedAnswerAsDeltas(isCertain: Bool) throws {
    for (form, answer) in [
      (ToolCallForm.bare, #"Look: {"name": "f", "parameters": {"n": 1}}; {"name": "g", "parameters": {"n": 2}}"#),
      (
        .tagged,
        "Look: "
          + (1...2).map { #"<tool_call>{"name": "\#($0 == 1 ? "f" : "g")", "arguments": {"n": \#($0)}}</tool_call>"# }
          .joined(separator: "\n")
      ),
    ] {
      let constraint = ToolConstraint(
        tools: [tool("f", strict: true), tool("g", strict: true)], form: form, isRequired: false, isParallel: true)
      #expect(try allows(constraint, answer))
      #expect(constraint.makesCallsCertain)
      let shape = ChatShape(tools: (form, ["f", "g"]), callsAreCertain: isCertain)
      var parser = try #require(shape.makeParser())
      var content = AnswerContent()
      var (names, arguments, chunks) = (["", ""], ["", ""], 0)
      func add(_ found: (text: String, parts: [ToolCallPart])) throws {
        let delta = shape.calls(0, found.parts, begun: content.calls.count)?.object?["delta"]?.object
        content.text += found.text
        for part in found.parts { content.add(part) }
        for entry in (delta?["tool_calls"]?.array ?? []).compactMap(\.object) {
          let (index, function) = (try #require(entry["index"]?.integer), entry["function"]?.object)
          names[index] += function?["name"]?.string ?? ""
          arguments[index] += function?["arguments"]?.string ?? ""
          chunks += 1
        }
      }
      for letter in answer { try add(parser.push(String(letter))) }
      try add(parser.finish())
      #expect(content.text == "Look:" && names == ["f", "g"] && arguments == [#"{"n":1}"#, #"{"n":2}"#])
      #expect(content.calls == zip(names, arguments).map { ToolCall(name: $0, arguments: $1) })
      #expect(isCertain ? chunks > 8 : chunks == 2)
    }
  }

  /// A text of a form of its own may look like a call, unless it is JSON and calls have tags.
  @Test func callsAreCertainWhereNoTextLooksLikeThem() {
    func isCertain(_ form: ToolCallForm, required: Bool, _ text: TextConstraint?) -> Bool {
      ToolConstraint(tools: [tool("f")], form: form, isRequired: required, isParallel: true, text: text)
        .makesCallsCertain
    }
    for (form, isCertainBesideJSON) in [(ToolCallForm.tagged, true), (.bare, false)] {
      #expect(isCertain(form, required: false, nil) && isCertain(form, required: true, .jsonObject))
      #expect(!isCertain(form, required: false, .regex(".*")))
      #expect(isCertain(form, required: false, .jsonObject) == isCertainBesideJSON)
    }
  }

  // MARK: strict functions

  /// Strict functions take only declared arguments, whatever their schemas leave open.
  @Test(arguments: [
    (#"{"type":"object","properties":{"n":{"type":"integer"}}}"#, [#"{"n":1}"#, "{}"], [#"{"n":1,"m":2}"#]),
    (#"{"properties":{"n":{"type":"integer"}}}"#, [#"{"n":1}"#], [#"{"m":2}"#, "3"]),
    (#"{"type":"object"}"#, ["{}"], [#"{"n":1}"#]),
    (
      #"{"type":"object","properties":{"o":{"type":"object","properties":{"n":{"type":"null"}}},"free":{"type":"object"}}}"#,
      [#"{"o":{"n":null}}"#, #"{"free":{"x":1}}"#], [#"{"o":{"m":1}}"#]
    ),
    (
      #"{"type":"object","properties":{"m":{"type":"object","additionalProperties":{"type":"integer"}}}}"#,
      [#"{"m":{"a":1,"b":2}}"#], [#"{"m":{"a":"b"}}"#]
    ),
    (
      ##"{"type":"object","properties":{"l":{"type":"array","items":{"$ref":"#/$defs/p"}}},"$defs":{"p":{"type":"object","properties":{"x":{"type":"integer"}}}}}"##,
      [#"{"l":[{"x":1}]}"#], [#"{"l":[{"y":1}]}"#]
    ),
    (
      ##"{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}],"properties":{"c":{"$ref":"#/$defs/a"}},"$defs":{"a":{"properties":{"a":{"const":1}}},"b":{"properties":{"b":{"const":2}}}}}"##,
      [#"{"a":1,"b":2}"#, #"{"c":{"a":1}}"#], [#"{"d":1}"#, #"{"c":{"b":2}}"#]
    ),
    (
      ##"{"type":"object","properties":{"a":{"allOf":[{"$ref":"#/$defs/a"}],"title":"A"}},"$defs":{"a":{"type":"object","properties":{"x":{"const":1}}}}}"##,
      [#"{"a":{"x":1}}"#], [#"{"a":{"y":1}}"#]
    ),
    (
      #"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"u":{"anyOf":[{"type":"object","properties":{"n":{"type":"integer"}}},{"type":"null"}]}}}"#,
      [#"{"u":{"n":1}}"#, #"{"u":null}"#], [#"{"u":{"m":1}}"#]
    ),
  ])
  func strictFunctionsTakeDeclaredArguments(_ parameters: String, accepted: [String], rejected: [String]) throws {
    var tool = tool("f", strict: true)
    tool.parameters = parameters
    var constraint = ToolConstraint(tools: [tool], form: .tagged, isRequired: true, isParallel: true)
    func call(_ arguments: String) -> String { Self.call.replacing(#"{"n": 3}"#, with: arguments) }
    for arguments in accepted { #expect(try allows(constraint, call(arguments)), "\(parameters) \(arguments)") }
    for arguments in rejected { #expect(try !allows(constraint, call(arguments)), "\(parameters) \(arguments)") }
    tool.isStrict = false
    constraint.tools = [tool]
    for arguments in accepted { #expect(try allows(constraint, call(arguments)), "\(parameters) \(arguments)") }
    // JSON Schema's own rule.
    #expect(try parameters.contains("additionalProperties") || allows(constraint, call(#"{"zz": 1}"#)))
  }

  @Test func strictFunctionsWithoutParameters() throws {
    var tool = tool("f", strict: true)
    tool.parameters = nil
    let constraint = ToolConstraint(tools: [tool], form: .tagged, isRequired: true, isParallel: true)
    #expect(try allows(constraint, Self.call.replacing(#"{"n": 3}"#, with: "{}")))
    #expect(try !allows(constraint, Self.call))
  }

  /// A call nested deeper than documents may be is text: it is neither a call nor an error.
  @Test(arguments: [60, 64, 1_000, 50_000]) func deepCalls(depth: Int) throws {
    let deep = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    let bare = "{\"name\": \"f\", \"parameters\": {\"n\": \(deep)}}"
    let tagged = "<tool_call>\(bare)</tool_call>"
    for (form, answer) in [(ToolCallForm.bare, bare), (.tagged, tagged)] {
      let (text, calls) = parsed(form, answer, pieces: 100)
      #expect(calls.count == (depth <= 62 ? 1 : 0))
      #expect(text == (calls.isEmpty ? answer : ""))
    }
    var loose = tool("f")
    loose.parameters = "{}"
    if depth <= 1_000 {
      #expect(
        try allows(ToolConstraint(tools: [loose], form: .bare, isRequired: true, isParallel: true), bare))
    }
  }

  @Test func aDocumentInsteadOfCalls() throws {
    let constraint = ToolConstraint(
      tools: [tool("f")], form: .tagged, isRequired: false, isParallel: true, text: .choice(["yes", "no"]))
    #expect(try allows(constraint, "yes") && allows(constraint, Self.call))
    #expect(try !allows(constraint, "Hello"))
  }

  /// A schema that a call must follow and cannot is an error, strict or not. Where no call is forced and the function is not
  /// strict, a warning names it.
  @Test func schemasThatCannotBeFollowed() throws {
    var tool = tool("f")
    tool.parameters = ##"{"type":"object","properties":{"a":{"$dynamicRef":"#x"}}}"##
    for (isStrict, isRequired) in [(true, true), (true, false), (false, true)] {
      tool.isStrict = isStrict
      let constraint = ToolConstraint(tools: [tool], form: .tagged, isRequired: isRequired, isParallel: false)
      let error = #expect(throws: ConstraintError.self) { try warnings(of: constraint) }
      #expect(error?.param == "tools")
      for word in ["'f'", "#/properties/a/$dynamicRef"] { #expect(error?.reason.contains(word) == true) }
    }
    tool.isStrict = false
    let loose = ToolConstraint(tools: [tool, self.tool("g")], form: .tagged, isRequired: false, isParallel: false)
    #expect(try allows(loose, Self.call.replacing("\"n\": 3", with: "\"any\": [1]")))
    #expect(try !allows(loose, Self.call.replacing("\"n\": 3", with: "\"any\": [1]").replacing("\"f\"", with: "\"g\"")))
    let told = try warnings(of: loose)
    #expect(told.count == 1)
    for word in ["'f'", "#/properties/a/$dynamicRef"] { #expect(told.first?.contains(word) == true) }
  }

  /// A schema that is too large is named, even where one that cannot be followed would be left out.
  @Test func schemasThatTakeTooMuch() throws {
    var tool = tool("f")
    tool.parameters = #"{"properties":{"a":{"pattern":"^\#(String(repeating: "\\\\p{L}", count: 3_000))$"}}}"#
    for isRequired in [true, false] {
      let constraint = ToolConstraint(tools: [tool], form: .tagged, isRequired: isRequired, isParallel: false)
      let error = #expect(throws: ConstraintError.self) { try warnings(of: constraint) }
      for word in ["'f'", "units of work"] { #expect(error?.reason.contains(word) == true, "\(error?.reason ?? "")") }
    }
  }

  private func warnings(of constraint: ToolConstraint) throws -> [String] {
    var warnings: [String] = []
    _ = try constraint.grammar(CompilationBudget(), warnings: &warnings)
    return warnings
  }
}
