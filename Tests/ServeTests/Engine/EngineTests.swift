import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing

@testable import Serve

@Suite struct EngineTests {
  private func requests(_ adapters: [Adapter]) -> [GenerationRequest] {
    let sets: [AdapterSet] = [
      .none, AdapterSet([(adapters[0], 1)]), AdapterSet([(adapters[1], 0.5)]),
      AdapterSet([(adapters[0], 0.3), (adapters[1], -1)]),
    ]
    return (0..<16).map { (index: Int) -> GenerationRequest in
      let length = [1, 5, 33, 90][index / 4]
      let maxTokens = [12, 1, 40, 0][(index + index / 4) % 4]
      let sampling = SamplingParameters(
        temperature: index % 3 == 0 ? 0 : 1, topP: index % 2 == 0 ? 1 : 0.9, seed: UInt64(index))
      return GenerationRequest(
        prompt: EngineHarness.prompt(length, seed: UInt64(index)), adapters: sets[index % 4], maxTokens: maxTokens,
        sampling: sampling, ignoresEndOfText: true, topLogprobs: 3, echoesPrompt: index % 2 == 0 || maxTokens == 0)
    }
  }

  @Test func companyChangesNeitherTokensNorLogprobs() throws {
    let harness = try EngineHarness()
    let requests = requests(harness.adapters)
    let alone = requests.flatMap { harness.run([$0]) }
    #expect(harness.run(requests) == alone)
    #expect(harness.run(requests.reversed()) == alone.reversed())
    for (request, outcome) in zip(requests, alone) {
      #expect(outcome.reason == .length && outcome.error == nil)
      #expect(outcome.tokens.count == request.options.maxTokens)
      #expect(
        outcome.usage
          == GenerationUsage(
            promptTokens: request.prompt.count, completionTokens: request.options.maxTokens, cachedTokens: 0))
      #expect(outcome.prompt.map(\.token) == (request.options.echoesPrompt ? request.prompt : []))
      #expect(outcome.text == harness.text(outcome.tokens))
      for record in outcome.tokens + outcome.prompt.dropFirst() {
        #expect(record.top.count == 3 && (record.logprob ?? 1) <= 0)
        #expect((record.top.first?.logprob ?? -1) >= (record.logprob ?? 0))
      }
    }
    // Adapters and seeds do count.
    #expect(Set(alone[8..<12].map(\.prompt.last?.logprob)).count > 1)
  }

  @Test func chunksAndScarceBlocksChangeNothing() throws {
    let wide = try EngineHarness()
    let narrow = try EngineHarness(rows: 3, blocks: 9)
    #expect(narrow.run(requests(narrow.adapters)) == wide.run(requests(wide.adapters)))
  }

  @Test func scoresAreThoseOfTheForwardPass() throws {
    let harness = try EngineHarness(rows: 7)
    let tokens = EngineHarness.prompt(50, seed: 3)
    let request = GenerationRequest(
      prompt: tokens, maxTokens: 0, sampling: .init(seed: 0), topLogprobs: 2, echoesPrompt: true)
    let outcome = harness.run([request])[0]
    #expect(outcome.reason == .length && outcome.tokens.isEmpty && outcome.text.isEmpty)
    #expect(outcome.prompt.first?.logprob == nil && outcome.prompt.first?.top.isEmpty == true)
    let base = try harness.model.base()
    let compute = Compute(pool: ThreadPool(threads: 1))
    let transformer = Transformer(base: base, compute: compute)
    let cache = try KeyValueCache(config: base.config, bytes: 1 << 20, element: .f32)
    var table = BlockTable()
    #expect(cache.extend(&table, to: 50))
    transformer.forward(
      ForwardBatch(segments: [.init(tokens: tokens, position: 0, table: table, adapters: .none, logits: 0..<50)]),
      cache: cache
    ) { logits, ld in
      for position in 1..<50 {
        let row = LogitRow(UnsafeBufferPointer(start: logits + (position - 1) * ld, count: 300), compute: compute)
        let sum = row.logSumExp
        #expect(outcome.prompt[position].logprob == row.logprob(tokens[position], logSumExp: sum).logprob)
        #expect(outcome.prompt[position].top == row.top(2, logSumExp: sum))
      }
    }
  }

  @Test func aStopStringEndsTheGeneration() throws {
    let harness = try EngineHarness()
    var request = GenerationRequest(
      prompt: EngineHarness.prompt(5, seed: 1), maxTokens: 60, sampling: .init(seed: 2), ignoresEndOfText: true)
    let whole = harness.run([request])[0]
    #expect(whole.reason == .length)
    let characters = Array(whole.text.unicodeScalars)
    let stop = String(String.UnicodeScalarView(characters[10..<12]))
    request.options.stop = [stop]
    let cut = harness.run([request])[0]
    #expect(cut.reason == .stop)
    let range = try #require(whole.text.range(of: stop, options: .literal))
    #expect(Array(cut.text.utf8) == Array(whole.text[..<range.lowerBound].utf8))
    #expect(whole.tokens.starts(with: cut.tokens))
    #expect((cut.usage?.completionTokens ?? 60) < 60)
  }

  @Test func cancellingEndsWithoutAnotherEventAndFreesTheBlocks() throws {
    let harness = try EngineHarness(blocks: 4)
    // Each takes the whole cache, so the second waits for the first.
    let long = GenerationRequest(
      prompt: EngineHarness.prompt(4, seed: 1), maxTokens: 120, sampling: .init(seed: 1), ignoresEndOfText: true)
    let engine = harness.engine
    for _ in 0..<5 {
      let events = Box(0)
      let id = Mutex<GenerationID?>(nil)
      // Locked until the id is there; from its sink on, all happens between two passes.
      id.withLock { first in
        first = engine.submit(long) { _ in
          events.update { $0 += 1 }
          let waiting = engine.submit(long) { _ in Issue.record("an event of a request that was cancelled") }
          engine.cancel(waiting)
          for _ in 0..<2 { id.withLock { $0 }.map(engine.cancel) }
        }
      }
      #expect(harness.run([long])[0].tokens.count == 120)
      #expect(events.value == 1)
    }
  }

  @Test func whatCannotBeComputedIsRefused() throws {
    let harness = try EngineHarness(blocks: 2)
    func error(_ prompt: [Int32], _ maxTokens: Int) -> EngineError? {
      harness.run([GenerationRequest(prompt: prompt, maxTokens: maxTokens, sampling: .init(seed: 1))])[0].error
    }
    #expect(error(EngineHarness.prompt(60, seed: 1), 6) == .exceedsCache(positions: 65, capacity: 64))
    #expect(error(EngineHarness.prompt(60, seed: 1), 5) == nil)
    #expect(error([1, 300], 1) == .noSuchToken(300, vocabulary: 300))
    #expect(error([1, -1], 1) == .noSuchToken(-1, vocabulary: 300))
    #expect(error([1, 299], 1) == nil)
  }

  @Test func stoppingEndsWhatRunsAndRefusesWhatComes() throws {
    let harness = try EngineHarness(shape: TinyShape(context: 4096))
    let request = GenerationRequest(
      prompt: EngineHarness.prompt(4, seed: 1), maxTokens: 4000, sampling: .init(seed: 1), ignoresEndOfText: true)
    let running = Mutex(Outcome())
    let started = DispatchSemaphore(value: 0)
    _ = harness.engine.submit(request) { event in
      running.withLock { $0.take(event) }
      started.signal()
    }
    started.wait()
    harness.engine.stop()
    #expect(running.withLock { $0.error } == .shuttingDown)
    harness.engine.stop()
    #expect(harness.run([request])[0].error == .shuttingDown)
  }
}
