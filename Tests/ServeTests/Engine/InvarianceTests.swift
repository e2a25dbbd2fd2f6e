import Formats
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing

@testable import Serve

/// A request's tokens and logprobs are those of a lonely run, bit for bit, whatever else happens.
@Suite struct InvarianceTests {
  /// Requests of two clients that often begin alike, of all kinds.
  private func requests(
    _ count: Int, _ adapters: [Adapter], _ random: inout TinyRandom
  ) -> [(request: GenerationRequest, client: ClientIdentity)] {
    let sets: [AdapterSet] = [
      .none, AdapterSet([(adapters[0], 1)]), AdapterSet([(adapters[0], 0.5)]), AdapterSet([(adapters[1], 1)]),
      AdapterSet([(adapters[0], 0.3), (adapters[1], -1)]),
    ]
    let beginnings = [64, 70, 5].map { EngineHarness.prompt($0, seed: UInt64($0)) }
    return (0..<count).map { index in
      let beginning = beginnings.randomElement(using: &random) ?? []
      let prompt =
        Array(beginning.dropLast([0, 0, 0, 1, 4].randomElement(using: &random) ?? 0))
        + EngineHarness.prompt([0, 0, 1, 20, 45].randomElement(using: &random) ?? 0, seed: UInt64(index % 3))
      let echoes = Int.random(in: 0..<4, using: &random) == 0
      let request = GenerationRequest(
        prompt: prompt, adapters: sets.randomElement(using: &random) ?? .none,
        maxTokens: Int.random(in: echoes ? 0...90 : 1...120, using: &random),
        sampling: SamplingParameters(
          temperature: Bool.random(using: &random) ? 0 : 1, topP: 0.95, seed: UInt64(index % 5)),
        ignoresEndOfText: true, topLogprobs: Int.random(in: 0..<3, using: &random) == 0 ? nil : 2, echoesPrompt: echoes)
      return (request, ClientIdentity(address: ["x", "y"].randomElement(using: &random) ?? ""))
    }
  }

  /// Every way to keep keys and values with the fastest instruction set, and the default one with the others of the machine.
  private static let formats: [(ComputeMode, KeyValueLayout.Element, InstructionSet)] = {
    let best = KernelSet.best.instructionSet
    let others = [InstructionSet.avx2, .avx512, .vnni].filter { $0 != best && KernelSet($0) != nil }
    return [(.f32, .f32, best), (.fast, .f16, best), (.fast, .int8, best), (.fast, .int16, best)]
      + others.map { (.fast, .int16, $0) }
  }()

  @Test(arguments: formats)
  func everyMixGivesWhatALonelyRunGives(
    mode: ComputeMode, element: KeyValueLayout.Element, set: InstructionSet
  ) throws {
    let kernels = try #require(KernelSet(set))
    let model = try TinyModel()
    let lonely = try EngineHarness(
      mode: mode, element: element, settings: .init(cachesPrefixes: false, speculates: false), kernels: kernels,
      model: model)
    var (preemptions, hits, cancelled, evictions) = (0, 0, 0, 0)
    for seed in 1...6 as ClosedRange<UInt64> {
      var random = TinyRandom(seed: seed * 7919)
      let requests = requests(24, lonely.adapters, &random)
      let alone = requests.flatMap { lonely.run([$0.request], clients: [$0.client]) }
      #expect(lonely.engine.metrics.snapshot.prefixHitTokens == 0)
      for _ in 0..<4 {
        let settings = Engine.Settings(
          maxRunning: [2, 7, 64].randomElement(using: &random) ?? 1,
          cachesPrefixes: Int.random(in: 0..<4, using: &random) > 0, speculates: Bool.random(using: &random),
          stepTarget: Bool.random(using: &random) ? .microseconds(300) : nil)
        let mixed = try EngineHarness(
          rows: Int.random(in: 1...70, using: &random), blocks: [8, 8, 9, 12, 100].randomElement(using: &random) ?? 9,
          mode: mode, element: element, settings: settings, kernels: kernels, model: model)
        let order = requests.indices.shuffled(using: &random)
        var cancelling: [Int: Int] = [:]
        for place in order.indices where Int.random(in: 0..<8, using: &random) == 0 {
          cancelling[place] = Int.random(in: 0...6, using: &random)
        }
        let isHurried = Bool.random(using: &random)
        let atOnce = isHurried && Bool.random(using: &random)
        let together = mixed.run(
          order.map { requests[$0].request }, clients: order.map { requests[$0].client }, cancelling: cancelling,
          together: atOnce
        ) { _ in
          if !isHurried { usleep(UInt32.random(in: 0...3000, using: &random)) }
        }
        for (place, index) in order.enumerated() {
          if together[place].isOver {
            #expect(together[place] == alone[index], "request \(index) of seed \(seed)")
          } else {
            cancelled += 1
            #expect(alone[index].tokens.starts(with: together[place].tokens))
            #expect(alone[index].text.utf8.starts(with: together[place].text.utf8))
          }
        }
        let state = mixed.engine.metrics.snapshot
        (preemptions, hits, evictions) = (
          preemptions + state.preemptions, hits + state.prefixHits, evictions + state.evictions
        )
      }
    }
    #expect(preemptions > 20)
    #expect(hits > 40)
    #expect(cancelled > 5)
    #expect(evictions > 20)
  }

  private func request(
    _ prompt: [Int32], _ adapters: AdapterSet = .none, maxTokens: Int = 3, seed: UInt64 = 1, echo: Bool = false
  ) -> GenerationRequest {
    GenerationRequest(
      prompt: prompt, adapters: adapters, maxTokens: maxTokens, sampling: .init(seed: seed), ignoresEndOfText: true,
      topLogprobs: 2, echoesPrompt: echo)
  }

  @Test func aSharedBeginningIsComputedOnce() throws {
    let harness = try EngineHarness()
    let system = EngineHarness.prompt(300, seed: 1)
    _ = harness.run([request(system + [1, 2, 3])])
    var before = harness.computedRows
    let second = harness.run([request(system + [4, 5, 6, 7])])[0]
    #expect(second.cachedTokens == 300 && harness.computedRows - before == 4 + 2)
    // The same prompt again needs its last token's row alone, what was generated belongs to what can be found.
    before = harness.computedRows
    let again = harness.run([request(system + [4, 5, 6, 7])])[0]
    #expect(again == second && again.cachedTokens == 303 && harness.computedRows - before == 1 + 2)
    before = harness.computedRows
    let longer = system + [4, 5, 6, 7] + second.tokens.map(\.token)
    #expect(harness.run([request(longer + [9])])[0].cachedTokens == 306)
    #expect(harness.computedRows - before == 2 + 2)
    // A prompt that is scored is computed as a whole.
    before = harness.computedRows
    let scored = harness.run([request(system, echo: true)])[0]
    #expect(scored.cachedTokens == 0 && scored.prompt.count == 300 && harness.computedRows - before == 300 + 2)
    let state = harness.engine.metrics.snapshot
    #expect(state.prefixHits == 3 && state.prefixHitTokens == 909 && state.blocksUsed == 0 && state.blocksCached > 9)
  }

  @Test func whatArrivesAtOnceSharesItsBeginning() throws {
    let harness = try EngineHarness()
    let alone = try EngineHarness(settings: .init(cachesPrefixes: false), model: harness.model)
    let system = EngineHarness.prompt(300, seed: 1)
    let requests = (0..<5).map { index in
      request(system + EngineHarness.prompt(3, seed: UInt64(index)), echo: index == 4)
    }
    let outcomes = harness.run(requests, clients: (0..<5).map { ClientIdentity(address: "\($0)") })
    #expect(outcomes == requests.flatMap { alone.run([$0]) })
    // The last wants the logprobs of its prompt, so that it computes the whole. The others share whole blocks at least.
    let cached = outcomes.map(\.cachedTokens).sorted()
    #expect(cached.prefix(2) == [0, 0] && cached.dropFirst(2).allSatisfy { (288...300).contains($0) })
    #expect(harness.computedRows == 5 * (303 + 2) - cached.reduce(0, +))
    let state = harness.engine.metrics.snapshot
    #expect(state.prefixHits == 3 && state.prefixHitTokens == cached.reduce(0, +) && state.blocksUsed == 0)
  }

  /// Whoever computes the common beginning is cancelled midway: the next goes on from there.
  @Test func aLeaderThatGoesLeavesWhatItComputed() throws {
    let harness = try EngineHarness(rows: 16, shape: TinyShape(context: 8192))
    let alone = try EngineHarness(settings: .init(cachesPrefixes: false), model: harness.model)
    let prompt = EngineHarness.prompt(4000, seed: 1)
    let outcomes = Mutex([Outcome](repeating: Outcome(), count: 3))
    let ended = DispatchSemaphore(value: 0)
    let (requests, engine) = ((0..<3).map { request(prompt + [$0 + 1]) }, harness.engine)
    let admissions = try engine.admit(ClientIdentity(), label: "base", count: 3)
    engine.submit(requests, admissions: admissions) { index, event in
      if outcomes.withLock({
        $0[index].take(event); return $0[index].isOver
      }) {
        ended.signal()
      }
    }
    while harness.computedRows < 1000 { usleep(100) }
    engine.cancel(admissions[0].id)
    for _ in 1..<3 { #expect(ended.wait(timeout: .now() + 120) == .success) }
    let results = outcomes.withLock { $0 }
    #expect(!results[0].isOver)
    for index in 1..<3 { #expect(results[index] == alone.run([requests[index]])[0]) }
    #expect(harness.computedRows < 4001 + 16 + 32 + 2 * 3)
  }

  @Test func withoutTheCacheNothingIsKept() throws {
    let harness = try EngineHarness(settings: .init(cachesPrefixes: false))
    let prompt = EngineHarness.prompt(100, seed: 1)
    for _ in 0..<3 { #expect(harness.run([request(prompt)])[0].cachedTokens == 0) }
    #expect(harness.computedRows == 3 * 102 && harness.engine.metrics.snapshot.blocksCached == 0)
  }

  @Test func differentWeightsNeverShare() throws {
    let harness = try EngineHarness()
    let base = try harness.model.base()
    // The same name with new contents.
    let reloaded = try Adapter(
      peft: harness.model.writeAdapter("a", ranks: [.q: 4, .down: 9], seed: 99).folder, base: base, mode: .f32)
    let (a, b) = (harness.adapters[0], harness.adapters[1])
    let sets: [AdapterSet] = [
      .none, AdapterSet([(a, 1)]), AdapterSet([(reloaded, 1)]), AdapterSet([(a, 0.5)]), AdapterSet([(b, 1)]),
      AdapterSet([(a, 1), (b, 1)]),
    ]
    let prompt = EngineHarness.prompt(80, seed: 4)
    let alone = try EngineHarness(settings: .init(cachesPrefixes: false), model: harness.model)
    for set in sets {
      let outcome = harness.run([request(prompt, set)])[0]
      #expect(outcome.cachedTokens == 0 && outcome == alone.run([request(prompt, set)])[0])
    }
    for set in sets { #expect(harness.run([request(prompt, set)])[0].cachedTokens == 79) }
  }

  @Test(arguments: [true, false]) func choicesShareTheirPrompt(cachesPrefixes: Bool) throws {
    let harness = try EngineHarness(rows: 16, settings: .init(cachesPrefixes: cachesPrefixes))
    let alone = try EngineHarness(settings: .init(cachesPrefixes: false), model: harness.model)
    let prompt = EngineHarness.prompt(90, seed: 4)
    for echo in [false, true] {
      let requests = (0..<5 as Range<UInt64>).map { request(prompt, maxTokens: 4, seed: $0, echo: echo) }
      let before = harness.computedRows
      let outcomes = harness.run(requests)
      #expect(outcomes == requests.flatMap { alone.run([$0]) })
      #expect(Set(outcomes.map(\.text)).count > 1)
      // The prompt once, its last row for each of the others, and three rows for each to go on.
      let first = echo || !cachesPrefixes || before == 0 ? 90 : 1
      #expect(harness.computedRows - before == first + 4 + 5 * 3)
    }
  }

  @Test func deadlinesEndRequests() throws {
    let harness = try EngineHarness(
      blocks: 2100, shape: TinyShape(context: 65536), settings: .init(maxRunning: 1))
    var long = request(EngineHarness.prompt(4, seed: 1), maxTokens: 65000)
    long.options.timeout = .seconds(2)
    var waiting = request(EngineHarness.prompt(4, seed: 2))
    waiting.options.timeout = .milliseconds(1)
    var hopeless = waiting
    hopeless.options.timeout = .nanoseconds(1)
    let outcomes = harness.run([long, waiting, hopeless])
    #expect(outcomes[0].reason == .length && (1..<65000).contains(outcomes[0].tokens.count))
    #expect(outcomes[1].error == .timedOut || outcomes[1].reason != nil)
    #expect(outcomes[2].error == .timedOut && outcomes[2].tokens.isEmpty)
    let counts = harness.engine.metrics.snapshot.counts[0]
    #expect(counts.requests.reduce(0, +) == 3 && counts.requests[3] >= 2 && counts.waiting == 0)
  }

  @Test func oneTooManyIsRefusedAtTheDoor() throws {
    let harness = try EngineHarness(shape: TinyShape(context: 4096), settings: .init(maxRunning: 1, maxQueue: 2))
    let long = request(EngineHarness.prompt(4, seed: 1), maxTokens: 300)
    let outcomes = harness.run(Array(repeating: long, count: 20))
    let refused = outcomes.filter {
      if case .overloaded(let waiting, let seconds) = $0.error { return waiting == 2 && (1...60).contains(seconds) }
      return false
    }
    #expect(refused.count >= 16 && outcomes.allSatisfy { $0.error != nil || $0 == outcomes[0] })
    let counts = harness.engine.metrics.snapshot.counts[0]
    #expect(counts.requests[4] == refused.count && counts.requests.reduce(0, +) == 20)
    // The door is open again.
    #expect(harness.run([long])[0] == outcomes[0])
  }
}
