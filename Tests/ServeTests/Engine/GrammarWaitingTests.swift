import Dispatch
import Formats
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing
import Tokenization

@testable import Grammars
@testable import Serve

/// An answer whose grammar takes more work than a pass waits for gets its mask from another thread. It is the same answer, and
/// others go on meanwhile.
@Suite struct GrammarWaitingTests {
  private let model: TinyModel
  private let vocabulary: TokenVocabulary

  init() throws {
    model = try TinyModel()
    let tokenizer = try model.tokenizer()
    let tokens = (0..<Int32(tokenizer.vocabularySize)).map { tokenizer.isSpecial($0) ? nil : tokenizer.tokenBytes($0) }
    vocabulary = TokenVocabulary(tokens: tokens, endTokens: [])
  }

  private func harness(patience: Int) throws -> EngineHarness {
    var settings = Engine.Settings()
    settings.grammarPatience = patience
    return try EngineHarness(settings: settings, model: model)
  }

  /// Grammars of texts with names that drafts find, of few letters, and with nesting.
  private func grammars() throws -> [CompiledGrammar] {
    let schema: JSONValue = [
      "type": "object", "properties": ["name": ["type": "string", "maxLength": 5], "other": ["enum": [1, 23]]],
      "required": ["name", "other"], "additionalProperties": false,
    ]
    return [
      try CompiledGrammar(JSONSchemaCompiler.grammar(for: schema, whiteSpace: .none), vocabulary: vocabulary),
      try CompiledGrammar(
        Grammar(try RegularExpressionParser.expression("[ab]*a[ab]{8}c")), vocabulary: vocabulary),
      try CompiledGrammar(GBNFParser.grammar("root ::= \"(\" root \")\" | [a-f]"), vocabulary: vocabulary),
    ]
  }

  private func requests(_ grammars: [CompiledGrammar]) -> [GenerationRequest] {
    (0..<24).map { index in
      let part = EngineHarness.prompt(7, seed: UInt64(index % 3))
      var options = GenerationOptions(
        maxTokens: [1, 5, 40][index % 3], sampling: .init(temperature: [0, 1][index % 2], seed: UInt64(index)),
        constraint: index % 4 == 3 ? nil : grammars[index % 4], topLogprobs: index % 4 == 1 ? 2 : nil,
        echoesPrompt: index % 7 == 6)
      if index % 8 == 2 { options.promptLogprobs = 1 }
      return GenerationRequest(prompt: part + part, options: options)
    }
  }

  @Test(arguments: [0, 60]) func answersAreThoseThatPassesWaitFor(patience: Int) throws {
    let waiting = try harness(patience: .max)
    let expected = waiting.run(requests(try grammars()))
    #expect(expected.count { $0.reason == .stop } > 1 && expected.allSatisfy { $0.error == nil })
    let harness = try harness(patience: patience)
    let grammars = try grammars()
    #expect(harness.run(requests(grammars)) == expected)
    #expect(harness.computedRows > waiting.computedRows, "some masks were found beside the passes")
    // Without others, each pass waits.
    for (index, request) in requests(grammars).enumerated() {
      #expect(harness.run([request]) == [expected[index]], "request \(index) alone")
    }
  }

  /// A grammar that needs more than it may ends its answer with an error, whoever finds that out.
  @Test(arguments: [0, Int.max]) func aGrammarThatNeedsTooMuchFails(patience: Int) throws {
    var limits = GrammarLimits()
    limits.tokenWork = 20
    let grammar = try CompiledGrammar(
      Grammar(try RegularExpressionParser.expression("[ab]*a[ab]{300}c")), vocabulary: vocabulary, limits: limits)
    let requests = (0..<4).map { index in
      GenerationRequest(
        prompt: EngineHarness.prompt(6, seed: UInt64(index)),
        options: .init(
          maxTokens: 400, sampling: .init(temperature: 1, seed: UInt64(index)), constraint: index == 0 ? grammar : nil))
    }
    let outcomes = try harness(patience: patience).run(requests)
    #expect(outcomes[0].error == .constraintFailed("the grammar needs more than 20 units of work for one token"))
    #expect(outcomes.dropFirst().allSatisfy { $0.error == nil })
  }

  /// Where only tokens that end the answer could come next, and it is not complete, the error names the field.
  @Test func anAnswerThatStopTokensLeaveNothingSaysSo() throws {
    let grammar = try CompiledGrammar(GBNFParser.grammar("root ::= [ab] [ab] \"c\"?"), vocabulary: vocabulary)
    func outcome(stoppingAt texts: String) throws -> Outcome {
      let ends = vocabulary.tokens.indices.filter { vocabulary.tokens[$0].contains { texts.utf8.contains($0) } }
      var options = GenerationOptions(maxTokens: 9, sampling: .init(temperature: 1, seed: 3), constraint: grammar)
      options.endTokens = Set(ends.map(Int32.init))
      return try harness(patience: 0).run([
        GenerationRequest(prompt: EngineHarness.prompt(6, seed: 1), options: options)
      ])[0]
    }
    #expect(try outcome(stoppingAt: "ab").error == .constraintStopped)
    #expect(try outcome(stoppingAt: "a").error == nil)
    #expect(try outcome(stoppingAt: "c").error == nil)
    let error = EngineError.constraintStopped.apiError
    #expect(error.param == "stop_token_ids" && error.code == "constraint_failed" && error.status == 400)
    #expect(error.message.contains("'stop_token_ids'"))
  }

  /// A mask that takes long does not keep others from their tokens.
  @Test func othersGoOnWhileAMaskIsFound() throws {
    let harness = try harness(patience: 0)
    let grammar = try grammars()[1]
    var options = GenerationOptions(maxTokens: 100, sampling: .init(temperature: 0, seed: 1), ignoresEndOfText: true)
    let other = GenerationRequest(prompt: EngineHarness.prompt(5, seed: 1), options: options)
    options.constraint = grammar
    let held = GenerationRequest(prompt: EngineHarness.prompt(5, seed: 2), options: options)
    let outcomes = Mutex([Outcome(), Outcome()])
    let ended = [DispatchSemaphore(value: 0), DispatchSemaphore(value: 0)]
    func submit(_ requests: [GenerationRequest], from first: Int) throws {
      let admissions = try harness.engine.admit(ClientIdentity(), label: "base", count: requests.count)
      harness.engine.submit(requests, admissions: admissions) { index, event in
        let isOver = outcomes.withLock { outcomes in
          outcomes[first + index].take(event)
          return outcomes[first + index].isOver
        }
        if isOver { ended[first + index].signal() }
      }
    }
    // The grammar's states are in use until the other answer has ended.
    let submitted = grammar.withStates { _ in
      let submitted = Result { try submit([held, other], from: 0) }
      #expect(ended[1].wait(timeout: .now() + 60) == .success)
      #expect(outcomes.withLock { $0[0].tokens.isEmpty && !$0[0].isOver })
      return submitted
    }
    try submitted.get()
    #expect(ended[0].wait(timeout: .now() + 60) == .success)
    let found = outcomes.withLock { $0 }
    #expect(found[1].tokens.count == 100 && found[0].error == nil && !found[0].tokens.isEmpty)
  }

  /// Lets no other thread use the grammar's states until the semaphore is signalled.
  private func hold(_ grammar: CompiledGrammar) -> DispatchSemaphore {
    let (isHeld, release) = (Flag(), DispatchSemaphore(value: 0))
    Thread.detachNewThread {
      grammar.withStates { _ in
        isHeld.set()
        release.wait()
      }
    }
    #expect(isHeld.wait())
    return release
  }

  private func answer(
    _ grammar: CompiledGrammar, _ work: GrammarWork, of client: String = ""
  ) throws -> ConstrainedAnswer {
    ConstrainedAnswer(
      grammar, endTokens: [], vocabularySize: try model.tokenizer().vocabularySize, work: work,
      client: ClientIdentity(address: client))
  }

  /// Masks that take long are found for one client after the other, so that a client's many answers do not hold up another's.
  @Test func clientsTakeTurns() throws {
    let work = GrammarWork(patience: 0)
    let compiled = try (0..<3).map { _ in try grammars()[1] }
    let answers = try zip(compiled, ["a", "a", "b"]).map { try answer($0, work, of: $1) }
    let held = compiled[..<2].map(hold)
    var mayGo = held[...]
    defer { for semaphore in mayGo { semaphore.signal() } }
    for answer in answers { #expect(answer.mask(mayWait: false) == nil && answer.isWaiting) }
    mayGo.removeFirst().signal()
    // The second mask of the first client, which came before, has not been found.
    #expect(eventually { answers[2].mask(mayWait: false) != nil })
    #expect(answers[1].mask(mayWait: false) == nil && answers[1].isWaiting)
    mayGo.removeFirst().signal()
    #expect(eventually { answers[1].mask(mayWait: false) != nil })
  }

  /// The mask of an answer that has ended is not looked for.
  @Test func anEndedAnswerCostsNoMask() throws {
    let (work, grammars) = (GrammarWork(patience: 0), try grammars())
    let gate = DispatchSemaphore(value: 0)
    work.worker(for: ClientIdentity()).async { gate.wait() }
    var ended: ConstrainedAnswer? = try answer(grammars[0], work)
    let next = try answer(grammars[1], work)
    let held = hold(grammars[0])
    defer { held.signal() }
    #expect(ended?.mask(mayWait: false) == nil && next.mask(mayWait: false) == nil)
    #expect(ended?.isWaiting == true && next.isWaiting)
    ended = nil
    gate.signal()
    #expect(eventually { next.mask(mayWait: false) != nil })
  }

  /// Whether an answer at its limit is complete is found by a worker: the engine's thread does not wait for the grammar.
  @Test(arguments: [("root ::= \"a\"", true), ("root ::= \"ab\"", false)])
  func theLastTokenWaitsForNoGrammar(rules: String, isComplete: Bool) throws {
    let tokenizer = try model.tokenizer()
    let grammar = try CompiledGrammar(GBNFParser.grammar(rules), vocabulary: vocabulary)
    let answer = ConstrainedAnswer(
      grammar, endTokens: [], vocabularySize: tokenizer.vocabularySize, work: GrammarWork(patience: .max),
      client: ClientIdentity())
    let token = try #require(tokenizer.encode("a", parsingSpecialTokens: false).last)
    #expect(answer.mask(mayWait: true) != nil)
    answer.renewPatience()
    // Another thread uses the grammar's states until `settle` has returned.
    let (isHeld, hasReturned) = (Flag(), Flag())
    Thread.detachNewThread {
      grammar.withStates { _ in
        isHeld.set()
        _ = hasReturned.wait()
      }
    }
    #expect(isHeld.wait())
    let (found, isFound) = (Box<Bool?>(nil), Flag())
    answer.accept(token)
    #expect(answer.isBehind)
    answer.settle {
      found.value = $0
      isFound.set()
    }
    #expect(isFound.timesSet == 0)
    hasReturned.set()
    #expect(isFound.wait() && found.value == isComplete)
  }
}
