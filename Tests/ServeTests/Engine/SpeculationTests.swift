import Formats
import Grammars
import Kernels
import Model
import TestSupport
import Testing
import Tokenization

@testable import Serve

/// A draft never changes an answer: with speculation and without, the events are the same bit for bit.
@Suite struct SpeculationTests {
  /// Prompts that repeat themselves, so that drafts are found; some answers do, too.
  private func requests(_ adapters: [Adapter], constraint: CompiledGrammar? = nil) -> [GenerationRequest] {
    (0..<24).map { index in
      let part = EngineHarness.prompt(9, seed: UInt64(index % 4))
      var sampling = SamplingParameters(temperature: [0, 0, 0.3, 1][index % 4], seed: UInt64(index))
      if index % 5 == 1 { sampling.repetitionPenalty = 1.3 }
      if index % 5 == 2 { sampling.frequencyPenalty = 0.4 }
      // Answers of few different tokens repeat themselves.
      if index % 3 == 1 { sampling.logitBias = [40: 30, 41: 30, 42: 30] }
      var options = GenerationOptions(
        maxTokens: [1, 2, 30, 60][index / 6], sampling: sampling, constraint: index % 3 == 0 ? constraint : nil,
        stop: index % 6 == 5 ? ["a", "\u{1}"] : [], ignoresEndOfText: index % 2 == 0,
        topLogprobs: index % 3 == 1 ? 2 : nil, echoesPrompt: index % 8 == 7)
      options.includesStop = index % 4 == 1
      return GenerationRequest(
        prompt: part + part + part.prefix(index % 5 + 1),
        adapters: index % 2 == 0 ? .none : AdapterSet([(adapters[index / 2 % 2], 1)]), options: options)
    }
  }

  private func compare(
    mode: ComputeMode = .f32, rows: Int, blocks: Int, constraint: CompiledGrammar? = nil
  ) throws -> EngineMetrics.State {
    let model = try TinyModel()
    let plain = try EngineHarness(mode: mode, settings: .init(speculates: false), model: model)
    let drafting = try EngineHarness(rows: rows, blocks: blocks, mode: mode, model: model)
    let requests = requests(plain.adapters, constraint: constraint)
    let expected = plain.run(requests)
    #expect(plain.engine.metrics.snapshot.draftTokens == 0)
    for (index, request) in requests.enumerated() {
      #expect(drafting.run([request]) == [expected[index]], "request \(index) alone")
    }
    #expect(drafting.run(requests) == expected, "all together")
    return drafting.engine.metrics.snapshot
  }

  @Test(arguments: [ComputeMode.f32, .fast])
  func answersAreThoseWithoutDrafts(mode: ComputeMode) throws {
    let state = try compare(mode: mode, rows: 128, blocks: 200)
    #expect(
      state.acceptedDraftTokens > 10 && state.draftTokens > state.acceptedDraftTokens, "\(state.acceptedDraftTokens)")
  }

  @Test func fewRowsAndBlocksChangeNothing() throws {
    _ = try compare(rows: 3, blocks: 7)
    #expect(try compare(rows: 1, blocks: 200).draftTokens == 0)
  }

  @Test func constrainedAnswersAreThoseWithoutDrafts() throws {
    let tokenizer = try TinyModel().tokenizer()
    let tokens = (0..<Int32(tokenizer.vocabularySize)).map { tokenizer.isSpecial($0) ? nil : tokenizer.tokenBytes($0) }
    let schema: JSONValue = [
      "type": "object",
      "properties": ["the_name": ["type": "string", "maxLength": 6], "another_one": ["enum": [1, 2]]],
      "required": ["the_name", "another_one"], "additionalProperties": false,
    ]
    let grammar = try JSONSchemaCompiler.grammar(for: schema, whiteSpace: .none)
    let compiled = try CompiledGrammar(grammar, vocabulary: TokenVocabulary(tokens: tokens, endTokens: []))
    let state = try compare(rows: 128, blocks: 200, constraint: compiled)
    #expect(state.acceptedDraftTokens > 50)
    // The names are the only text that can come; all of it but the first token is computed with the token before.
    let harness = try EngineHarness()
    let request = GenerationRequest(
      prompt: EngineHarness.prompt(5, seed: 1),
      options: .init(maxTokens: 100, sampling: .init(temperature: 0, seed: 1), constraint: compiled))
    let outcome = harness.run([request])[0]
    #expect(outcome.reason == .stop && outcome.text.contains("\"another_one\""))
    let passes = harness.engine.metrics.snapshot.batchRows.count
    #expect(passes < outcome.tokens.count - 10, "\(passes) passes for \(outcome.tokens.count) tokens")
  }

  @Test func theLookupFindsTheLongestOfTheLatestOccurrences() {
    var random = TinyRandom(seed: 5)
    for alphabet in [2, 3, 6] as [Int32] {
      var lookup = PromptLookup()
      var tokens: [Int32] = []
      for _ in 0..<400 {
        tokens += (0..<Int.random(in: 1...3, using: &random)).map { _ in Int32.random(in: 0..<alphabet, using: &random)
        }
        // All earlier occurrences of the last three, the latest first.
        let ends = (3..<max(tokens.count, 3)).reversed().filter {
          tokens[($0 - 3)..<$0].elementsEqual(tokens.suffix(3))
        }
        let lengths = ends.prefix(16).map { end in
          (1...min(32, end)).last { tokens[(end - $0)..<end].elementsEqual(tokens.suffix($0)) } ?? 0
        }
        let best = lengths.max()
        let expected = best.flatMap { best in
          lengths.firstIndex(of: best).map { PromptLookup.Match(next: ends[$0], length: best) }
        }
        #expect(lookup.match(tokens) == expected)
      }
    }
  }

  @Test func aContinuationRepeatsAtTheEndOfTheText() {
    let tokens: [Int32] = [9, 1, 2, 3, 4, 1, 2, 3]
    let match = PromptLookup.Match(next: 4, length: 3)
    #expect(PromptLookup.continuation(of: match, in: tokens, count: 2) == [4, 1])
    #expect(PromptLookup.continuation(of: match, in: tokens, count: 7) == [4, 1, 2, 3, 4, 1, 2])
  }

  /// A prompt of a million tokens enters the index over many calls, and then matches are found.
  @Test func aLongPromptIsIndexedInParts() {
    var lookup = PromptLookup()
    let tokens = (0..<20_000).map { Int32($0 % 7919) }
    let calls = (1...10).first { _ in lookup.match(tokens) != nil }
    #expect(calls == 5)
  }

  @Test func ratesFollowTheText() {
    var rates = AcceptanceRates()
    #expect(rates[.shortMatch] == 0.5 && rates[.grammar] == 0.9)
    for _ in 0..<100 { rates.record(.shortMatch, accepted: 0, of: 3) }
    #expect(rates[.shortMatch] < 0.1)
    #expect(rates[.match] == 0.7, "each reason has its own")
    for _ in 0..<200 { rates.skip(.shortMatch) }
    #expect(rates[.shortMatch] > 0.45)
    for _ in 0..<100 { rates.record(.shortMatch, accepted: 3, of: 3) }
    #expect(rates[.shortMatch] > 0.95)
    // After two right tokens and a wrong one, nothing is known of the rest.
    for _ in 0..<100 { rates.record(.match, accepted: 2, of: 31) }
    #expect(abs(rates[.match] - 2.0 / 3) < 0.02)
  }
}
