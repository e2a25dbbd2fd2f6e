import Foundation
import Kernels
import Model
import TestSupport

@testable import Serve

/// What routes need to answer: a tiny model with a running engine, a data folder, and an event loop on a thread of its own.
final class AnswerSetting {
  let model: TinyModel
  let context: ServerContext
  let loop: EventLoop
  private let ended = Flag()

  init(contextLength: Int = 64) throws {
    model = try TinyModel(TinyShape(layers: 1))
    let base = try model.base()
    let tokenizer = try model.tokenizer()
    let folder = try DataFolder(model.root.appending(path: "data"))
    let database = try MetadataDatabase(folder)
    let engine = Engine(
      transformer: Transformer(base: base, compute: Compute(pool: ThreadPool(threads: 1))),
      cache: try KeyValueCache(config: base.config, bytes: 4 << 20, element: .f32), tokenizer: tokenizer)
    context = ServerContext(
      engine: engine, tokenizer: tokenizer,
      adapters: try AdapterStore(
        dataFolder: folder, database: database,
        binding: .init(fingerprint: base.fingerprint, preparer: AdapterPreparer(base: base, mode: .f32))),
      base: base, contextLength: contextLength, servedModelName: "tiny", startedAt: 0,
      responses: ResponseStore(database: database, daysKept: 1))
    let loop = try EventLoop()
    self.loop = loop
    engine.start()
    Thread.detachNewThread { [ended] in
      loop.run()
      ended.set()
    }
  }

  deinit {
    context.engine.stop()
    loop.stop()
    _ = ended.wait()
  }

  /// The fields of a body.
  func fields(_ json: String) throws -> RequestFields { try RequestFields(Array(json.utf8), JSONLimits()) }

  /// Prepares a request as its route does.
  func prepare(_ endpoint: GenerationEndpoint, _ json: String) throws -> any PreparedRequest {
    let prompts = PromptTokenizer(
      tokenizer: context.tokenizer, contextLength: context.contextLength, abandonment: Abandonment())
    switch endpoint {
    case .completions: return try CompletionRequest.parse(fields(json), prompts: prompts, grammars: context.grammars)
    case .chat: return try ChatRequest.parse(fields(json), context: context, prompts: prompts)
    case .embeddings: return try EmbeddingRequest(fields(json), context: context, prompts: prompts)
    case .responses: return try ResponseRequest.parse(fields(json), context: context, prompts: prompts)
    }
  }
}
