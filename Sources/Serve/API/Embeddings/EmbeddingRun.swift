import Formats
import Model

/// Answers one request for embeddings: submits its inputs to the engine, a few at a time, and answers when all are done.
/// Used on the target's loop only.
final class EmbeddingRun {
  private let request: EmbeddingRequest
  private let selection: ModelSelection
  private let client: ClientIdentity
  private let target: any AnswerTarget
  private let context: ServerContext
  private var adapters = AdapterSet.none
  /// The embeddings that are done, by input.
  private var embeddings: [[Float]]
  /// The engine's ids of the inputs that were submitted and are not done.
  private var running: [Int: GenerationID] = [:]
  /// The first input that was not submitted yet.
  private var nextInput = 0
  private var doneCount = 0
  private var usage = GenerationUsage()
  private var isOver = false
  /// When the first input was admitted. The request's timeout counts from here for all inputs.
  private var begin: ContinuousClock.Instant?

  /// Maximum inputs of one request that wait or run in the engine, so that a request of thousands neither fills the queue
  /// nor is refused because of it.
  private static let maximumRunning = 32

  init(
    _ request: EmbeddingRequest, _ selection: ModelSelection, client: ClientIdentity, target: any AnswerTarget,
    context: ServerContext
  ) {
    self.request = request
    self.selection = selection
    self.client = client
    self.target = target
    self.context = context
    embeddings = [[Float]](repeating: [], count: request.inputs.count)
  }

  private var label: String { selection.selector.label }

  /// Admits one input.
  /// - Throws: `EngineError.overloaded` or `.shuttingDown`
  func admit() throws(EngineError) -> Admission { try context.engine.admit(client, label: label, count: 1)[0] }

  /// Submits the first inputs. The run is cancelled when the target closes.
  func start(adapters: AdapterSet, first: Admission) {
    self.adapters = adapters
    begin = first.time
    target.onClose { [self] in cancel() }
    var admissions = [first]
    while admissions.count < min(Self.maximumRunning, request.inputs.count) {
      // What is not admitted now is tried again when an input is done.
      guard let admission = try? admit() else { break }
      admissions.append(admission)
    }
    submit(admissions)
  }

  private func submit(_ admissions: [Admission]) {
    let first = nextInput
    nextInput += admissions.count
    var options = GenerationOptions(maxTokens: 0, sampling: SamplingParameters(seed: 0))
    options.poolsPrompt = true
    let requests = admissions.enumerated().map { index, admission in
      // The request's timeout is for all of its inputs. The engine measures an input's timeout from that input's admission, so
      // an input that is admitted later gets only the rest. A negative rest ends the input at once.
      options.timeout = request.timeout.map { $0 - (begin ?? admission.time).duration(to: admission.time) }
      return GenerationRequest(
        prompt: request.inputs[first + index], adapters: adapters, options: options, label: label)
    }
    for (index, admission) in admissions.enumerated() { running[first + index] = admission.id }
    let (loop, run) = (target.loop, LoopBound(self, on: target.loop))
    context.engine.submit(requests, admissions: admissions) { index, event in
      loop.execute { run.value.receive(event, of: first + index) }
    }
  }

  private func receive(_ event: GenerationEvent, of index: Int) {
    guard !isOver else { return }
    switch event {
    case .pooled(let mean): embeddings[index] = request.shortened(mean)
    case .finished(_, let usage):
      running[index] = nil
      doneCount += 1
      self.usage.promptTokens += usage.promptTokens
      proceed()
    case .failed(let error):
      running[index] = nil
      fail(error.apiError)
    case .prompt, .output: break
    }
  }

  /// Submits further inputs in the place of one that is done, or answers.
  private func proceed() {
    guard doneCount < request.inputs.count else { return respond() }
    var admissions: [Admission] = []
    do throws(EngineError) {
      while running.count + admissions.count < Self.maximumRunning,
        nextInput + admissions.count < request.inputs.count
      { admissions.append(try admit()) }
    } catch {
      if running.isEmpty, admissions.isEmpty { return fail(error.apiError) }
    }
    if !admissions.isEmpty { submit(admissions) }
  }

  private func cancel() {
    isOver = true
    for generation in running.values { context.engine.cancel(generation) }
  }

  private func fail(_ error: APIError) {
    cancel()
    target.respond(error)
  }

  private func respond() {
    isOver = true
    let answer = EmbeddingAnswer(
      model: selection.name, embeddings: embeddings, isBase64: request.isBase64, tokens: usage.promptTokens)
    // Writing millions of numbers takes long.
    target.respond(encodingOn: context.encoding) { answer.encoded }
  }
}
