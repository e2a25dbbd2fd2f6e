import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

/// Requests for the mean of a prompt's hidden states.
@Suite struct PooledPromptTests {
  private func pooled(_ prompt: [Int32], _ adapters: AdapterSet = .none) -> GenerationRequest {
    var request = GenerationRequest(
      prompt: prompt, adapters: adapters, options: .init(maxTokens: 0, sampling: .init(seed: 0)))
    request.options.poolsPrompt = true
    return request
  }

  @Test func meansAreThoseOfTheReference() throws {
    let harness = try EngineHarness(rows: 16)
    let reference = try LlamaReference(harness.model, config: harness.model.source().config)
    let written = try harness.model.writeAdapter("a", ranks: [.q: 4, .down: 9], seed: 1)
    for (length, weight) in [(1, 0.0), (37, 0), (70, 0), (45, 0.5)] {
      let prompt = EngineHarness.prompt(length, seed: UInt64(length))
      let adapters = weight == 0 ? .none : AdapterSet([(harness.adapters[0], Float(weight))])
      let outcome = harness.run([pooled(prompt, adapters)])[0]
      #expect(outcome.reason == .length && outcome.tokens.isEmpty && outcome.prompt.isEmpty)
      let states = reference.hiddenStates(prompt, weight == 0 ? [] : [(written, weight)])
      let mean = states[0].indices.map { i in states.reduce(0) { $0 + $1[i] } / Double(length) }
      let norm = mean.reduce(0) { $0 + $1 * $1 }.squareRoot()
      #expect(outcome.pooled.count == mean.count)
      for (value, wanted) in zip(outcome.pooled, mean) { #expect(abs(Double(value) - wanted / norm) < 2e-5) }
    }
  }

  @Test(arguments: [ComputeMode.f32, .fast])
  func meansDoNotDependOnWhatRunsBeside(mode: ComputeMode) throws {
    let model = try TinyModel()
    let lonely = try EngineHarness(mode: mode, settings: .init(cachesPrefixes: false), model: model)
    let beginning = EngineHarness.prompt(66, seed: 1)
    let sets: [AdapterSet] = [.none, AdapterSet([(lonely.adapters[0], 1)]), AdapterSet([(lonely.adapters[1], -0.5)])]
    let requests = (0..<18).map { index in
      let prompt = Array(beginning.prefix([66, 64, 9][index % 3])) + EngineHarness.prompt(index, seed: 2)
      return index % 2 == 0
        ? pooled(prompt, sets[index % 3])
        : GenerationRequest(
          prompt: prompt, adapters: sets[index % 3], maxTokens: 30, sampling: .init(seed: UInt64(index)),
          ignoresEndOfText: true, topLogprobs: 1, echoesPrompt: index % 5 == 0)
    }
    let alone = requests.flatMap { lonely.run([$0]) }
    #expect(alone.indices.allSatisfy { alone[$0].pooled.isEmpty == ($0 % 2 == 1) })
    var preemptions = 0
    for (rows, blocks) in [(5, 9), (13, 10), (64, 9), (128, 200)] {
      let mixed = try EngineHarness(rows: rows, blocks: blocks, mode: mode, model: model)
      #expect(mixed.run(requests) == alone)
      // Now the cache has what the prompts begin with.
      #expect(mixed.run(requests.reversed()) == alone.reversed())
      preemptions += mixed.engine.metrics.snapshot.preemptions
    }
    #expect(preemptions > 0)
  }

  @Test func equalPromptsAreComputedOnce() throws {
    let harness = try EngineHarness()
    let prompt = EngineHarness.prompt(80, seed: 3)
    let outcomes = harness.run([pooled(prompt), pooled(prompt), pooled(prompt)])
    #expect(outcomes[0] == outcomes[1] && outcomes[1] == outcomes[2] && outcomes[0].pooled.count > 0)
    // A member that shares the others' sums computes one row.
    #expect(harness.computedRows == 80 + 2)
  }

  @Test func aLengthOfZeroStays() {
    #expect(PooledStates.normalized([0, 0]) == [0, 0])
    #expect(PooledStates.normalized([3, 4]) == [0.6, 0.8])
  }
}
