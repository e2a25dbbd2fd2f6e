import Formats
import Foundation
import Kernels
import Model
import Serve
import Synchronization

/// Chats with a model in this process, without a server.
final class ModelChat: ChatBackend {
  private let model: LoadedModel
  private let format: ChatFormat
  private let engine: Engine
  private let mode: ComputeMode
  private let parameters: SamplingParameters
  private let maxTokens: Int
  private let adapters = Mutex<(set: AdapterSet, text: String)>((.none, ""))
  /// The answer that is being generated, if any.
  private let running = Mutex<Outcome?>(nil)

  let title: String

  /// - Throws: `ModelError` for a model or a chat template that cannot be used
  init(_ options: ModelOptions, _ template: ChatTemplateOptions, sampling: SamplingOptions, maxTokens: Int) throws {
    let opened = try OpenedModel(options)
    format = try template.format(opened.tokenizer, name: options.modelStem).get()
    options.kernel.writeWarning()
    model = try LoadedModel(opened)
    engine = Engine(transformer: model.transformer, cache: model.cache, tokenizer: model.tokenizer)
    engine.start()
    (mode, parameters, title) = (options.arithmetic.compute, sampling.parameters, options.modelStem)
    self.maxTokens = maxTokens
  }

  var adapterText: String {
    let text = adapters.withLock { $0.text }
    return text.isEmpty ? "no adapter" : "adapter: \(text)"
  }

  /// - Throws: `ModelError` for a folder that is no adapter of this base
  func use(adapters names: String) throws {
    if ["none", "base"].contains(names) { return adapters.withLock { $0 = (.none, "") } }
    let set = AdapterSet(
      try names.split(separator: ",").map { term in
        let (path, weight) = Self.parts(term.trimmingCharacters(in: .whitespaces))
        AdapterImport.writeNotes(URL(filePath: path))
        return (try Adapter.read(URL(filePath: path), base: model.base, mode: mode), weight)
      })
    adapters.withLock { $0 = (set, names) }
  }

  /// "folder:0.5" as folder and weight.
  static func parts(_ term: String) -> (path: String, weight: Float) {
    guard let colon = term.lastIndex(of: ":"), let weight = Float(term[term.index(after: colon)...]), weight.isFinite
    else { return (term, 1) }
    return (String(term[..<colon]), weight)
  }

  func answer(_ messages: [JSONValue], receive: @escaping @Sendable (String) -> Void) throws -> String {
    // From here on an interrupt ends the answer, not the program.
    let outcome = Outcome()
    running.withLock { $0 = outcome }
    defer { running.withLock { $0 = nil } }
    let prompt = try format.tokens(Conversation(messages: messages))
    let room = min(engine.positionLimit - prompt.count, maxTokens == 0 ? .max : maxTokens)
    guard room > 0 else {
      throw ModelError("chat", reason: "the conversation is longer than the model's context; /reset begins anew")
    }
    let request = GenerationRequest(
      prompt: prompt, adapters: adapters.withLock { $0.set },
      options: .init(maxTokens: room, sampling: parameters, endTokens: format.endTokens))
    let text = Mutex("")
    let id = engine.submit(request) { event in
      switch event {
      case .output(let piece, _):
        text.withLock { $0 += piece }
        receive(piece)
      case .finished(_, let usage): outcome.end(.done(usage))
      case .failed(let error): outcome.end(.failed(error))
      case .prompt, .pooled: break
      }
    }
    let end = outcome.wait()
    if case .failed(let error) = end { throw ModelError("chat", reason: error.advice) }
    if case .interrupted = end { engine.cancel(id) }
    return text.withLock { $0 }
  }

  func interrupt() -> Bool {
    guard let outcome = running.withLock({ $0 }) else { return false }
    outcome.end(.interrupted)
    return true
  }

  func close() { engine.stop() }
}
