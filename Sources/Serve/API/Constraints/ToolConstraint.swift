import Formats
import Grammars
import Model

/// Which tool calls an answer may or must have.
struct ToolConstraint: AnswerConstraint {
  /// A tool that may be called.
  struct Tool: Hashable, Sendable {
    var name: String
    /// The JSON Schema of the arguments, as JSON text; `nil` for any object.
    var parameters: String?
    /// Whether every call is held to the schema, also where the model may answer without calls.
    var isStrict: Bool
    /// The tool's index in the request.
    var index: Int
  }

  /// The tools that may be called.
  var tools: [Tool]
  /// How the model writes calls.
  var form: ToolCallForm
  /// Whether the answer must be calls; else it may be text.
  var isRequired: Bool
  /// Whether there may be several calls.
  var isParallel: Bool
  /// What the text must be, where the answer is no call; `nil` for any text.
  var text: TextConstraint?

  /// Whether what begins like a call in the answer is one. A text of a form of its own may begin like a call, too, but JSON has the
  /// tag only in strings, where no call can follow it.
  var makesCallsCertain: Bool { isRequired || text == nil || form == .tagged && text?.isJSON == true }

  var key: GrammarKey { .tools(self) }

  var size: Int {
    tools.reduce(text?.size ?? 0) { $0 + 128 + $1.name.utf8.count + ($1.parameters?.utf8.count ?? 0) }
  }

  /// The grammar of the answers. Where no call is forced, the schema of a tool that is not strict may be one that cannot be
  /// followed; its calls then have any object as arguments, of which a warning tells.
  /// - Throws: `ConstraintError` that names the tool, and what cannot be followed
  func grammar(_ budget: CompilationBudget, warnings: inout [String]) throws(ConstraintError) -> Grammar {
    var grammar = Grammar()
    let answer = grammar.addSymbol("answer")
    grammar.start = answer
    let call = grammar.addSymbol("call")
    for tool in tools { try addCall(of: tool, to: call, &grammar, budget, &warnings) }
    switch form {
    case .tagged: try addTagged(answer, call, &grammar, budget)
    case .bare: try addBare(answer, call, &grammar, budget)
    case .marked(let marks): try addMarked(answer, call, marks, &grammar, budget)
    }
    return grammar
  }

  // MARK: forms

  private static let opening = "<tool_call>"
  private static let closing = "</tool_call>"
  /// At most two line breaks or spaces.
  private static let space = ByteExpression.repetition(.byte(ByteSet(" \n".utf8)), minimum: 0, maximum: 2)

  /// Calls between tags. Text may stand before the first one, and between calls, unless calls are required.
  private func addTagged(
    _ answer: Grammar.Symbol, _ call: Grammar.Symbol, _ grammar: inout Grammar, _ budget: CompilationBudget
  ) throws(ConstraintError) {
    let tagged = grammar.addSymbol("tagged call")
    grammar.addRule(
      tagged,
      [
        .terminal(grammar.terminal(.sequence([.literal(Self.opening), Self.space]))), .symbol(call),
        .terminal(grammar.terminal(.sequence([Self.space, .literal(Self.closing)]))),
      ])
    if isRequired {
      addCalls(answer, tagged, between: Self.space, &grammar)
      return
    }
    if let text {
      grammar.addRule(answer, [.symbol(try embed(try text.grammar(budget), in: &grammar, budget))])
      addCalls(answer, tagged, between: Self.space, &grammar)
      return
    }
    let text = grammar.terminal(Self.text(without: Self.opening))
    grammar.addRule(answer, [.terminal(text)])
    if isParallel {
      grammar.addRule(answer, [.terminal(text), .symbol(tagged), .symbol(answer)])
    } else {
      grammar.addRule(answer, [.terminal(text), .symbol(tagged)])
    }
  }

  /// Calls at the end of the answer: one JSON object after another, separated by a semicolon or a line break. Text may stand
  /// before the first one unless calls are required.
  private func addBare(
    _ answer: Grammar.Symbol, _ call: Grammar.Symbol, _ grammar: inout Grammar, _ budget: CompilationBudget
  ) throws(ConstraintError) {
    let calls = grammar.addSymbol("calls at the end")
    addBareCalls(calls, call, &grammar)
    grammar.addRule(answer, [.symbol(calls)])
    if isRequired { return }
    if let text {
      grammar.addRule(answer, [.symbol(try embed(try text.grammar(budget), in: &grammar, budget))])
      return
    }
    let text = grammar.terminal(try textWithoutCalls(budget))
    grammar.addRule(answer, [.terminal(text)])
    grammar.addRule(answer, [.terminal(text), .symbol(calls)])
  }

  /// Calls one after another, as a list, in a block of Markdown, or behind Llama's tag, which is a token of its own.
  private func addBareCalls(_ calls: Grammar.Symbol, _ call: Grammar.Symbol, _ grammar: inout Grammar) {
    let separator = ByteExpression.sequence([
      .alternatives([.literal(";"), .literal("\n")]), Self.space,
    ])
    addCalls(calls, call, between: separator, &grammar)
    addCalls(calls, call, between: .sequence([.literal(","), Self.space]), &grammar, after: "[", before: "]")
    let letters = ByteExpression.byte(ByteSet("abcdefghijklmnopqrstuvwxyz_".utf8))
    let fence = ByteExpression.sequence([
      .literal("```"), .repetition(letters, minimum: 0, maximum: 16), Self.space,
    ])
    let block = grammar.addSymbol("calls in a block")
    addCalls(block, call, between: separator, &grammar)
    grammar.addRule(
      calls,
      [
        .terminal(grammar.terminal(fence)), .symbol(block),
        .terminal(grammar.terminal(.sequence([Self.space, .literal("```")]))),
      ])
    let tag = ByteExpression.sequence([.literal(bytes: TokenVocabulary.callTag), Self.space])
    grammar.addRule(calls, [.terminal(grammar.terminal(tag)), .symbol(block)])
  }

  /// Calls between a template's marks, at the end of the answer. Text may stand before them unless calls are required.
  private func addMarked(
    _ answer: Grammar.Symbol, _ call: Grammar.Symbol, _ marks: CallMarks, _ grammar: inout Grammar,
    _ budget: CompilationBudget
  ) throws(ConstraintError) {
    let (marked, rest) = (grammar.addSymbol("marked calls"), grammar.addSymbol("the end of a call"))
    let (opening, closing) = (Self.expression(marks.opening), Self.expression(marks.closing))
    grammar.addRule(marked, [.terminal(grammar.terminal(opening)), .symbol(call), .symbol(rest)])
    grammar.addRule(rest, [.terminal(grammar.terminal(closing))])
    if isParallel, let between = marks.between {
      grammar.addRule(rest, [.terminal(grammar.terminal(Self.expression(between))), .symbol(call), .symbol(rest)])
    }
    grammar.addRule(answer, [.symbol(marked)])
    if isRequired { return }
    if let text {
      grammar.addRule(answer, [.symbol(try embed(try text.grammar(budget), in: &grammar, budget))])
      return
    }
    var text = Self.text(without: marks.mark)
    if marks.callsAreObjects { text = .intersection([text, try textWithoutCalls(budget)]) }
    grammar.addRule(answer, [.terminal(grammar.terminal(text))])
    grammar.addRule(answer, [.terminal(grammar.terminal(text)), .symbol(marked)])
  }

  /// What a template writes around calls. White space may be a little different.
  private static func expression(_ pieces: [CallMarks.Piece]) -> ByteExpression {
    let id = ByteSet((UInt8.min...UInt8.max).filter(CallMarks.isID))
    return .sequence(
      pieces.map { piece in
        switch piece {
        case .text(let text): .sequence(words(of: text))
        case .special(let text): .literal(bytes: TokenVocabulary.special(text))
        case .id: .repetition(.byte(id), minimum: 1, maximum: CallMarks.maximumID)
        case .optional(let pieces): expression(pieces).optional
        }
      })
  }

  private static func words(of text: String) -> [ByteExpression] {
    var words: [ByteExpression] = []
    var rest = text[...]
    while let first = rest.first {
      let word = rest.prefix { $0.isWhitespace == first.isWhitespace }
      words.append(
        first.isWhitespace
          ? .repetition(.byte(ByteSet(" \n".utf8)), minimum: 0, maximum: max(2, word.utf8.count))
          : .literal(String(word)))
      rest = rest[word.endIndex...]
    }
    return words
  }

  /// Any text but one with the name of a tool as a call has it, of which no rule would hold the arguments to their schema. Text
  /// does not begin like a call either.
  private func textWithoutCalls(_ budget: CompilationBudget) throws(ConstraintError) -> ByteExpression {
    let (key, names): (ByteExpression, ByteExpression)
    do throws(GrammarError) {
      key = try .jsonStrings(["name"], budget: budget)
      names = try .jsonStrings(tools.map(\.name), budget: budget)
    } catch { throw ConstraintError(reason: error.description) }
    let white = ByteSet(" \t\r\n".utf8)
    let other = white.union(ByteSet("{[".utf8)).inverted
    let blank = ByteExpression.repetition(.byte(white), minimum: 0, maximum: nil)
    let mention = ByteExpression.sequence([Self.any, key, blank, .literal(":"), blank, names, Self.any])
    return .intersection([
      .alternatives([blank, .sequence([blank, .byte(other), Self.any])]), .complement(mention),
      .repetition(.byte(TokenVocabulary.textBytes), minimum: 0, maximum: nil),
    ])
  }

  /// One call, or several if they are allowed.
  private func addCalls(
    _ answer: Grammar.Symbol, _ call: Grammar.Symbol, between separator: ByteExpression, _ grammar: inout Grammar,
    after opening: String = "", before closing: String = ""
  ) {
    let calls = grammar.addSymbol("calls")
    if opening.isEmpty {
      grammar.addRule(answer, [.symbol(calls)])
    } else {
      grammar.addRule(
        answer,
        [
          .terminal(grammar.terminal(.sequence([.literal(opening), Self.space]))), .symbol(calls),
          .terminal(grammar.terminal(.sequence([Self.space, .literal(closing)]))),
        ])
    }
    grammar.addRule(calls, [.symbol(call)])
    if isParallel {
      grammar.addRule(calls, [.symbol(call), .terminal(grammar.terminal(separator)), .symbol(calls)])
    }
  }

  /// All texts that do not contain the tag.
  private static func text(without tag: String) -> ByteExpression {
    .intersection([
      .complement(.sequence([any, .literal(tag), any])),
      .repetition(.byte(TokenVocabulary.textBytes), minimum: 0, maximum: nil),
    ])
  }

  private static let any = ByteExpression.repetition(.byte(.all), minimum: 0, maximum: nil)

  // MARK: a call

  /// `{"name": "…", "arguments": {…}}`, with or without a space after colons and the comma. Llama 3 calls the arguments
  /// "parameters", and often writes `"type": "function"` first. A template may have marks of its own between name and arguments.
  private func addCall(
    of tool: Tool, to call: Grammar.Symbol, _ grammar: inout Grammar, _ budget: CompilationBudget,
    _ warnings: inout [String]
  ) throws(ConstraintError) {
    if case .marked(let marks) = form, !marks.callsAreObjects {
      let arguments = try embed(try argumentsGrammar(of: tool, budget, &warnings), in: &grammar, budget)
      let head = ByteExpression.sequence([
        .literal(bytes: marks.written(tool.name)), Self.expression(marks.beforeArguments),
      ])
      grammar.addRule(call, [.terminal(grammar.terminal(head)), .symbol(arguments)])
      return
    }
    let blank = ByteExpression.literal(" ").optional
    let name = String(decoding: JSONValue.string(tool.name).encoded, as: UTF8.self)
    let key: ByteExpression =
      form == .tagged
      ? .literal(#""arguments""#) : .alternatives([.literal(#""parameters""#), .literal(#""arguments""#)])
    let type = ByteExpression.sequence([
      .literal(#""type":"#), blank, .literal(#""function","#), blank,
    ])
    let head = ByteExpression.sequence([
      .literal("{"), blank, form == .tagged ? .empty : type.optional, .literal(#""name":"#), blank, .literal(name),
      .literal(","), blank, key, .literal(":"),
      blank,
    ])
    let arguments = try embed(try argumentsGrammar(of: tool, budget, &warnings), in: &grammar, budget)
    grammar.addRule(
      call,
      [
        .terminal(grammar.terminal(head)), .symbol(arguments),
        .terminal(grammar.terminal(.sequence([blank, .literal("}")]))),
      ])
  }

  private func embed(
    _ other: Grammar, in grammar: inout Grammar, _ budget: CompilationBudget
  ) throws(ConstraintError) -> Grammar.Symbol {
    do throws(GrammarError) { return try grammar.embed(other, budget: budget) } catch {
      throw ConstraintError(reason: error.description)
    }
  }

  private func argumentsGrammar(
    of tool: Tool, _ budget: CompilationBudget, _ warnings: inout [String]
  ) throws(ConstraintError) -> Grammar {
    if tool.parameters == nil, !tool.isStrict { return Grammar.jsonObject }
    do {
      let parameters = try tool.parameters.map(TextConstraint.parsed)
      return try JSONSchemaCompiler.grammar(
        for: StrictParameters.schema(parameters, isStrict: tool.isStrict), budget: budget)
    } catch {
      let reason = "the parameters of the tool '\(tool.name.excerpt(80))': \(error)"
      // What has used up the budget leaves nothing for the rest of the grammar.
      if isRequired || tool.isStrict || budget.isExceeded { throw ConstraintError(reason: reason, param: "tools") }
      warnings.append("Arguments are not held to \(reason.excerpt(500)).")
      return Grammar.jsonObject
    }
  }
}
