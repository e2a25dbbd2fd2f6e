import Foundation
import Kernels
import Logging
import Model
import TestSupport

@testable import Formats
@testable import Serve

/// What routes need to answer: a tiny model with a running engine, a data folder, and an event loop on a thread of its own.
final class AnswerSetting {
  let model: TinyModel
  let context: ServerContext
  let loop: EventLoop
  private let ended = Flag()

  /// - Parameter starts: whether the engine runs from the beginning; else requests wait until it is started
  init(contextLength: Int = 64, starts: Bool = true) throws {
    model = try TinyModel(TinyShape(layers: 1))
    let base = try model.base()
    let tokenizer = try model.tokenizer()
    let folder = try DataFolder(model.root.appending(path: "data"))
    let database = try MetadataDatabase(folder)
    let engine = Engine(
      transformer: Transformer(base: base, compute: Compute(pool: ThreadPool(threads: 1))),
      cache: try KeyValueCache(config: base.config, bytes: 4 << 20, element: .f32), tokenizer: tokenizer)
    let template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    let chat = try ChatFormat(tokenizer, template: template, name: "test")
    context = ServerContext(
      engine: engine, tokenizer: tokenizer,
      adapters: try AdapterStore(
        dataFolder: folder, database: database,
        binding: .init(fingerprint: base.fingerprint, preparer: AdapterPreparer(base: base, mode: .f32))),
      base: base, contextLength: contextLength, servedModelName: "tiny", startedAt: 0,
      responses: ResponseStore(database: database, daysKept: 1), chat: .success(chat))
    let loop = try EventLoop()
    self.loop = loop
    if starts { engine.start() }
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

  /// Prepares a request as its route does.
  func prepare(
    _ endpoint: GenerationEndpoint, _ json: String, memory: BodyMemory = BodyMemory(limit: 64 << 20)
  ) throws -> any PreparedRequest {
    try endpoint.prepare(
      RequestFields(Array(json.utf8), JSONLimits()), context: context, memory: MemoryShare(memory, client: "a"),
      unknownNames: UnknownNameLog(Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }), Abandonment())
  }
}
