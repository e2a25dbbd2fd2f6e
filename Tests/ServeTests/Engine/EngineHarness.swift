import Formats
import Tokenization
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing

@testable import Serve

/// What a generation told of itself. How much of it came from the cache is no part of the answer.
struct Outcome: Equatable {
  var prompt: [TokenRecord] = []
  var pooled: [Float] = []
  var text = ""
  var tokens: [TokenRecord] = []
  var reason: FinishReason?
  var usage: GenerationUsage?
  var error: EngineError?
  var cachedTokens = 0

  mutating func take(_ event: GenerationEvent) {
    #expect(reason == nil && error == nil, "an event after the end")
    switch event {
    case .prompt(let records):
      #expect(prompt.isEmpty && tokens.isEmpty)
      prompt = records
    case .pooled(let mean):
      #expect(pooled.isEmpty && tokens.isEmpty)
      pooled = mean
    case .output(let shown, let records):
      text += shown
      tokens += records
    case .finished(let why, let spent):
      (reason, usage, cachedTokens) = (why, spent, spent.cachedTokens)
      usage?.cachedTokens = 0
    case .failed(let failure): error = failure
    }
  }

  var isOver: Bool { reason != nil || error != nil }

  static func == (a: Outcome, b: Outcome) -> Bool {
    a.prompt == b.prompt && a.pooled == b.pooled && a.text == b.text && a.tokens == b.tokens && a.reason == b.reason
      && a.usage == b.usage
      && a.error == b.error
  }
}

/// An engine on the tiny model.
final class EngineHarness {
  let model: TinyModel
  let engine: Engine
  let tokenizer: Tokenizer
  /// Two, of different modules and ranks.
  let adapters: [Adapter]

  init(
    rows: Int = 128, blocks: Int = 200, shape: TinyShape = TinyShape(), mode: ComputeMode = .f32,
    element: KeyValueLayout.Element? = nil, settings: Engine.Settings = .init(), kernels: KernelSet = .best,
    model: TinyModel? = nil
  ) throws {
    self.model = try model ?? TinyModel(shape)
    let base = try self.model.base(mode)
    tokenizer = try self.model.tokenizer()
    let compute = Compute(kernels: kernels, pool: ThreadPool(threads: 2), mode: mode)
    let element = element ?? mode.keyValueElement
    let one = try KeyValueCache(config: base.config, bytes: 0, element: element).bytesPerBlock
    let cache = try KeyValueCache(config: base.config, bytes: blocks * one, element: element)
    var settings = settings
    settings.rowBudget = rows
    engine = Engine(
      transformer: Transformer(base: base, compute: compute), cache: cache, tokenizer: tokenizer, settings: settings)
    adapters = try [
      Adapter(peft: self.model.writeAdapter("a", ranks: [.q: 4, .down: 9], seed: 1).folder, base: base, mode: mode),
      Adapter(peft: self.model.writeAdapter("b", ranks: [.v: 17, .gate: 2], seed: 2).folder, base: base, mode: mode),
    ]
    engine.start()
  }

  deinit { engine.stop() }

  /// Rows that were computed so far.
  var computedRows: Int { Int(engine.metrics.snapshot.batchRows.sum) }

  func text(_ records: [TokenRecord]) -> String {
    var decoder = StreamDecoder(tokenizer, isContinuation: true)
    return records.map { decoder.push($0.token) }.joined() + decoder.finish()
  }

  /// Submits all at once and waits for their ends.
  /// - Parameter clients: whose requests they are; by default one client's
  func run(_ requests: [GenerationRequest], clients: [ClientIdentity]? = nil) -> [Outcome] {
    run(requests, clients: clients, cancelling: [:], together: true) { _ in }
  }

  /// Submits one after another and waits for their ends.
  /// - Parameters:
  ///   - cancelling: after how many events a request is cancelled
  ///   - together: whether they reach the engine at once
  ///   - pause: called before each
  func run(
    _ requests: [GenerationRequest], clients: [ClientIdentity]? = nil, cancelling: [Int: Int], together: Bool = false,
    pause: (Int) -> Void
  ) -> [Outcome] {
    let outcomes = Mutex([Outcome](repeating: Outcome(), count: requests.count))
    let ids = Mutex([GenerationID?](repeating: nil, count: requests.count))
    let left = Mutex(cancelling)
    let ended = DispatchSemaphore(value: 0)
    let engine = engine
    let sink: @Sendable (Int, GenerationEvent) -> Void = { index, event in
      let isOver = outcomes.withLock { outcomes in
        outcomes[index].take(event)
        return outcomes[index].isOver
      }
      if isOver { return _ = ended.signal() }
      let cancels = left.withLock { left in
        guard let count = left[index], count >= 0 else { return false }
        left[index] = count - 1
        return count == 0
      }
      guard cancels else { return }
      ids.withLock { $0[index] }.map(engine.cancel)
      ended.signal()
    }
    func client(_ index: Int) -> ClientIdentity { clients?[index] ?? ClientIdentity() }
    if together {
      // Those that are refused are told at once, the others are handed in as one.
      var admitted: [(index: Int, admission: Admission)] = []
      ids.withLock { known in
        for index in requests.indices {
          pause(index)
          do throws(EngineError) {
            let admission = try engine.admit(client(index), label: requests[index].label, count: 1)[0]
            known[index] = admission.id
            admitted.append((index, admission))
          } catch { sink(index, .failed(error)) }
        }
      }
      let indices = admitted.map(\.index)
      engine.submit(indices.map { requests[$0] }, admissions: admitted.map(\.admission)) { sink(indices[$0], $1) }
    } else {
      for index in requests.indices {
        pause(index)
        ids.withLock { known in
          known[index] = engine.submit(requests[index], client: client(index)) { sink(index, $0) }
        }
      }
    }
    for index in requests.indices {
      #expect(ended.wait(timeout: .now() + 120) == .success, "request \(index) of \(requests.count)")
    }
    return outcomes.withLock { $0 }
  }

  static func prompt(_ count: Int, seed: UInt64) -> [Int32] {
    var random = TinyRandom(seed: seed)
    return (0..<count).map { _ in Int32.random(in: 1..<270, using: &random) }
  }
}

extension GenerationRequest {
  /// With the options spelt out.
  init(
    prompt: [Int32], adapters: AdapterSet = .none, maxTokens: Int, sampling: SamplingParameters, stop: [String] = [],
    endTokens: Set<Int32> = [], ignoresEndOfText: Bool = false, topLogprobs: Int? = nil, echoesPrompt: Bool = false
  ) {
    self.init(
      prompt: prompt, adapters: adapters,
      options: .init(
        maxTokens: maxTokens, sampling: sampling, stop: stop, endTokens: endTokens, ignoresEndOfText: ignoresEndOfText,
        topLogprobs: topLogprobs, echoesPrompt: echoesPrompt))
  }
}
