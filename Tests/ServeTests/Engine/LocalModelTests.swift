import Dispatch
import Formats
import Foundation
import Kernels
import Model
import Synchronization
import TestSupport
import Testing
import Tokenization

@testable import Serve

/// A model as a library: what it streams is what an engine answers.
@Suite struct LocalModelTests {
  private let tiny: TinyModel
  private let model: LocalModel

  init() throws {
    tiny = try TinyModel()
    let template = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}[assistant]"
    try Data(template.utf8).write(to: tiny.folder.appending(path: "chat_template.jinja"))
    model = try LocalModel(at: tiny.folder, settings: Self.settings(tiny))
  }

  private static func settings(_ tiny: TinyModel) -> LocalModel.Settings {
    LocalModel.Settings(mode: .f32, threads: 1, cacheBytes: 8 << 20, dataFolder: tiny.root.appending(path: "data"))
  }

  private func text(_ stream: TextStream) async throws -> String {
    var text = ""
    for try await piece in stream { text += piece }
    return text
  }

  /// What an engine of another making answers to these tokens.
  private func expected(_ prompt: [Int32], _ adapters: AdapterSet, maxTokens: Int) throws -> String {
    let base = try tiny.base()
    let engine = Engine(
      transformer: Transformer(base: base, compute: Compute(pool: ThreadPool(threads: 2), mode: .f32)),
      cache: try KeyValueCache(config: base.config, bytes: 4 << 20, element: .f32), tokenizer: try tiny.tokenizer())
    engine.start()
    defer { engine.stop() }
    let options = GenerationOptions(maxTokens: maxTokens, sampling: SamplingParameters(temperature: 0, seed: 0))
    return try engine.answer(to: GenerationRequest(prompt: prompt, adapters: adapters, options: options))
  }

  @Test func aPromptIsContinuedWithAndWithoutAnAdapter() async throws {
    let folder = try tiny.writeAdapter("a", ranks: [.q: 4, .down: 4], seed: 3).folder
    let adapter = try model.adapter(at: folder)
    let prompt = model.tokenizer.encode("the bean", parsingSpecialTokens: true)
    var answers: Set<String> = []
    for adapters in [AdapterSet.none, AdapterSet([(adapter, 1)])] {
      let answer = try await text(model.complete("the bean", adapters: adapters, maxTokens: 24))
      #expect(try answer == expected(prompt, adapters, maxTokens: 24))
      answers.insert(answer)
    }
    #expect(answers.count == 2)
  }

  @Test func aMessageGoesThroughTheChatTemplate() async throws {
    let prompt = model.tokenizer.encode("[user] hello\n[assistant]", parsingSpecialTokens: true)
    let answer = try await text(model.chat("hello", maxTokens: 16))
    #expect(try answer == expected(prompt, .none, maxTokens: 16))
    #expect(!answer.isEmpty)
  }

  @Test func errorsReachTheStream() async throws {
    await #expect(throws: EngineError.self) { try await text(model.complete("a", maxTokens: 100_000)) }
    await #expect(throws: EngineError.self) { try await text(model.complete("", maxTokens: 4)) }
  }

  @Test func aModelWithoutATemplateHasNoChats() throws {
    try FileManager.default.removeItem(at: tiny.folder.appending(path: "chat_template.jinja"))
    let other = try LocalModel(at: tiny.folder, settings: Self.settings(tiny))
    let error = #expect(throws: ModelError.self) { try other.chat("hello") }
    #expect(error?.reason == "has no chat template")
  }

  @Test func aLoopThatIsLeftEndsItsGeneration() async throws {
    let running = try endless()
    for try await _ in running.stream { break }
    #expect(wasCancelled(in: running))
    // The stream lives on, but there is nothing more to read.
    #expect(try await text(running.stream).utf8.count < Self.endlessTokens)
  }

  @Test func aTaskThatIsCancelledEndsItsGeneration() async throws {
    let running = try endless()
    let (isReading, hasRead) = AsyncStream<Void>.makeStream()
    let task = Task { [stream = running.stream] in for try await _ in stream { hasRead.finish() } }
    for await _ in isReading {}
    task.cancel()
    try await task.value
    #expect(wasCancelled(in: running))
  }

  @Test func aStreamThatNobodyReadsEndsItsGeneration() throws {
    var running: Endless? = try endless()
    let (model, gate) = (try #require(running).model, try #require(running).gate)
    running = nil
    #expect(wasCancelled(in: model, gate))
  }

  /// Neither the engine nor the stream keeps a model whose only request was given up.
  @Test func aModelIsReleasedWithItsLastStream() async throws {
    weak var model: LocalModel?
    weak var engine: Engine?
    do {
      let running = try endless()
      (model, engine) = (running.model, running.model.engine)
      for try await _ in running.stream { break }
      running.gate.open()
    }
    #expect(eventually { model == nil && engine == nil })
  }

  private static let endlessTokens = 30_000

  /// A generation that cannot be over before it is cancelled.
  private struct Endless {
    let model: LocalModel
    let stream: TextStream
    let gate: Gate
  }

  /// Holds the engine's thread. Tests that share the machine may keep a task from running for minutes, in which the engine
  /// would generate all tokens.
  private final class Gate: Sendable {
    private let outputs = Mutex(0)
    private let semaphore = DispatchSemaphore(value: 0)

    /// Called for each output of a request beside the stream's, which has some outputs before the engine stops here.
    func pass() {
      let count = outputs.withLock { count in
        count += 1
        return count
      }
      if count == 8 { semaphore.wait() }
    }

    func open() { semaphore.signal() }
  }

  private func endless() throws -> Endless {
    let tiny = try TinyModel(TinyShape(context: Self.endlessTokens + 512))
    var settings = Self.settings(tiny)
    (settings.contextLength, settings.cacheBytes) = (tiny.shape.context, 32 << 20)
    let model = try LocalModel(at: tiny.folder, settings: settings)
    let neverEnding = SamplingParameters(temperature: 0, logitBias: [TinyTokenizer.endToken: -1000], seed: 0)
    let stream = model.complete("the", maxTokens: Self.endlessTokens, sampling: neverEnding)
    let (gate, prompt) = (Gate(), model.tokenizer.encode("the", parsingSpecialTokens: true))
    let options = GenerationOptions(maxTokens: 16, sampling: neverEnding)
    _ = model.engine.submit(GenerationRequest(prompt: prompt, adapters: .none, options: options)) { event in
      if case .output = event { gate.pass() }
    }
    return Endless(model: model, stream: stream, gate: gate)
  }

  private func wasCancelled(in running: Endless) -> Bool { wasCancelled(in: running.model, running.gate) }

  /// Whether the engine, once it goes on, cancels the stream's request and has all blocks of the cache again.
  private func wasCancelled(in model: LocalModel, _ gate: Gate) -> Bool {
    gate.open()
    let cancelled = EngineMetrics.Outcome.allCases.firstIndex(of: .cancelled) ?? 0
    return eventually {
      let state = model.engine.metrics.snapshot
      return state.counts.first?.requests[cancelled] == 1 && state.blocksUsed == 0
    }
  }

  /// The engine's thread may hold the last reference to the model.
  @Test func aStreamOutlivesItsModelsName() async throws {
    var model: LocalModel? = try LocalModel(at: tiny.folder, settings: Self.settings(tiny))
    let stream = try #require(model).complete("the bean", maxTokens: 24)
    model = nil
    let answer = try await text(stream)
    #expect(try await answer == text(self.model.complete("the bean", maxTokens: 24)))
  }
}
