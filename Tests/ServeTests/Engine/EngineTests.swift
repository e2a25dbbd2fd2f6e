import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing

@testable import Serve

@Suite struct EngineTests {
  /// What a generation told of itself.
  private struct Outcome: Equatable {
    var prompt: [TokenRecord] = []
    var text = ""
    var tokens: [TokenRecord] = []
    var reason: FinishReason?
    var usage: GenerationUsage?
    var error: EngineError?

    mutating func take(_ event: GenerationEvent) {
      #expect(reason == nil && error == nil, "an event after the end")
      switch event {
      case .prompt(let records):
        #expect(prompt.isEmpty && tokens.isEmpty)
        prompt = records
      case .output(let shown, let records):
        text += shown
        tokens += records
      case .finished(let why, let spent): (reason, usage) = (why, spent)
      case .failed(let failure): error = failure
      }
    }
    var isOver: Bool { reason != nil || error != nil }
  }

  private final class Harness {
    let model: TinyModel
    let engine: Engine
    let tokenizer: Tokenizer
    let adapters: [Adapter]

    init(rows: Int = 128, blocks: Int = 200, shape: TinyShape = TinyShape()) throws {
      model = try TinyModel(shape)
      let base = try model.base()
      tokenizer = try model.tokenizer()
      let compute = Compute(pool: ThreadPool(threads: 2))
      let cache = try KeyValueCache(config: base.config, bytes: blocks * 16384, element: .f32)
      engine = Engine(
        transformer: Transformer(base: base, compute: compute), cache: cache, tokenizer: tokenizer,
        settings: .init(rowBudget: rows))
      adapters = try [
        Adapter(peft: model.writeAdapter("a", ranks: [.q: 4, .down: 9], seed: 1).folder, base: base, mode: .f32),
        Adapter(peft: model.writeAdapter("b", ranks: [.v: 17, .gate: 2], seed: 2).folder, base: base, mode: .f32),
      ]
      engine.start()
    }

    deinit { engine.stop() }

    func text(_ records: [TokenRecord]) -> String {
      var decoder = StreamDecoder(tokenizer, isContinuation: true)
      return records.map { decoder.push($0.token) }.joined() + decoder.finish()
    }

    /// Submits all at once and waits for their ends.
    func run(_ requests: [GenerationRequest]) -> [Outcome] {
      let outcomes = Mutex([Outcome](repeating: Outcome(), count: requests.count))
      let ended = DispatchSemaphore(value: 0)
      for (index, request) in requests.enumerated() {
        _ = engine.submit(request) { event in
          let isOver = outcomes.withLock { outcomes in
            outcomes[index].take(event)
            return outcomes[index].isOver
          }
          if isOver { ended.signal() }
        }
      }
      for _ in requests { #expect(ended.wait(timeout: .now() + 60) == .success) }
      return outcomes.withLock { $0 }
    }
  }

  private func prompt(_ count: Int, seed: UInt64) -> [Int32] {
    var random = TinyRandom(seed: seed)
    return (0..<count).map { _ in Int32.random(in: 1..<270, using: &random) }
  }

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
        prompt: prompt(length, seed: UInt64(index)), adapters: sets[index % 4], maxTokens: maxTokens,
        sampling: sampling, ignoresEndOfText: true, topLogprobs: 3, echoesPrompt: index % 2 == 0 || maxTokens == 0)
    }
  }

  @Test func companyChangesNeitherTokensNorLogprobs() throws {
    let harness = try Harness()
    let requests = requests(harness.adapters)
    let alone = requests.flatMap { harness.run([$0]) }
    #expect(harness.run(requests) == alone)
    #expect(harness.run(requests.reversed()) == alone.reversed())
    for (request, outcome) in zip(requests, alone) {
      #expect(outcome.reason == .length && outcome.error == nil)
      #expect(outcome.tokens.count == request.maxTokens)
      #expect(
        outcome.usage
          == GenerationUsage(promptTokens: request.prompt.count, completionTokens: request.maxTokens, cachedTokens: 0))
      #expect(outcome.prompt.map(\.token) == (request.echoesPrompt ? request.prompt : []))
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
    let wide = try Harness()
    let narrow = try Harness(rows: 3, blocks: 9)
    #expect(narrow.run(requests(narrow.adapters)) == wide.run(requests(wide.adapters)))
  }

  @Test func scoresAreThoseOfTheForwardPass() throws {
    let harness = try Harness(rows: 7)
    let tokens = prompt(50, seed: 3)
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
    let harness = try Harness()
    var request = GenerationRequest(
      prompt: prompt(5, seed: 1), maxTokens: 60, sampling: .init(seed: 2), ignoresEndOfText: true)
    let whole = harness.run([request])[0]
    #expect(whole.reason == .length)
    let characters = Array(whole.text.unicodeScalars)
    let stop = String(String.UnicodeScalarView(characters[10..<12]))
    request.stop = [stop]
    let cut = harness.run([request])[0]
    #expect(cut.reason == .stop)
    let range = try #require(whole.text.range(of: stop, options: .literal))
    #expect(Array(cut.text.utf8) == Array(whole.text[..<range.lowerBound].utf8))
    #expect(whole.tokens.starts(with: cut.tokens))
    #expect((cut.usage?.completionTokens ?? 60) < 60)
  }

  @Test func cancellingEndsWithoutAnotherEventAndFreesTheBlocks() throws {
    let harness = try Harness(blocks: 4)
    // Each takes the whole cache, so the second waits for the first.
    let long = GenerationRequest(
      prompt: prompt(4, seed: 1), maxTokens: 120, sampling: .init(seed: 1), ignoresEndOfText: true)
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
    let harness = try Harness(blocks: 2)
    func error(_ prompt: [Int32], _ maxTokens: Int) -> EngineError? {
      harness.run([GenerationRequest(prompt: prompt, maxTokens: maxTokens, sampling: .init(seed: 1))])[0].error
    }
    #expect(error(prompt(60, seed: 1), 6) == .exceedsCache(positions: 65, capacity: 64))
    #expect(error(prompt(60, seed: 1), 5) == nil)
    #expect(error([1, 300], 1) == .noSuchToken(300, vocabulary: 300))
    #expect(error([1, -1], 1) == .noSuchToken(-1, vocabulary: 300))
    #expect(error([1, 299], 1) == nil)
  }

  @Test func stoppingEndsWhatRunsAndRefusesWhatComes() throws {
    let harness = try Harness(shape: TinyShape(context: 4096))
    let request = GenerationRequest(
      prompt: prompt(4, seed: 1), maxTokens: 4000, sampling: .init(seed: 1), ignoresEndOfText: true)
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
