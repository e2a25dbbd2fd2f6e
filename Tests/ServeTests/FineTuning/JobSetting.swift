import Tokenization
import Formats
import Foundation
import Kernels
import Logging
import Model
import TestSupport
import Testing
import Train

@testable import Serve

/// A tiny model with a data folder, on which fine-tuning is opened one time after the other, as a server's restarts
/// would.
final class JobSetting {
  let model: TinyModel
  private let base: Base
  private let tokenizer: Tokenizer
  private var dataURL: URL { model.root.appending(path: "data") }

  init() throws {
    model = try TinyModel(TinyShape(layers: 1))
    base = try model.base()
    tokenizer = try model.tokenizer()
  }

  private var running: JobServer?

  /// The server that runs. Nobody keeps it over a restart: what it holds could not be opened again.
  var server: JobServer { get throws { try #require(running) } }

  /// Stops the server if there is one, as SIGTERM does, and opens it anew.
  func start(turn: Duration = .seconds(600)) throws {
    running?.stop()
    running = nil
    // What stopped may hold the folder and the database for a moment longer.
    #expect(
      eventually {
        running = try? JobServer(DataFolder(dataURL), base: base, tokenizer: tokenizer, turn: turn)
        return running != nil
      })
  }

  deinit { running?.stop() }

  /// Rows of token ids as a file.
  static func rows(_ count: Int, length: Int, seed: UInt64) -> [UInt8] {
    var random = TinyRandom(seed: seed)
    let lines = (0..<count).map { _ in
      let ids = (0..<length).map { _ in "\(Int.random(in: 1..<270, using: &random))" }
      return "{\"tokens\":[\(ids.joined(separator: ","))]}"
    }
    return Array(lines.joined(separator: "\n").utf8)
  }
}

/// An engine with fine-tuning beside it.
final class JobServer {
  let engine: Engine
  let service: FineTuningService
  let files: FileStore
  let adapters: AdapterStore
  let database: MetadataDatabase

  init(_ folder: DataFolder, base: Base, tokenizer: Tokenizer, turn: Duration) throws {
    let compute = Compute(pool: ThreadPool(threads: 1), mode: .f32)
    let cache = try KeyValueCache(config: base.config, bytes: 4 << 20, element: .f32)
    database = try MetadataDatabase(folder)
    engine = Engine(
      transformer: Transformer(base: base, compute: compute), cache: cache, tokenizer: tokenizer)
    adapters = try AdapterStore(
      dataFolder: folder, database: database,
      binding: .init(fingerprint: base.fingerprint, preparer: AdapterPreparer(base: base, mode: .f32)))
    files = try FileStore(dataFolder: folder, database: database, sizeLimit: 64 << 20)
    service = try FineTuningService(
      dataFolder: folder,
      environment: .init(
        engine: engine, compute: compute, base: base, baseName: "tiny", tokenizer: tokenizer,
        chat: .failure(ModelError("tiny", reason: "has no chat template")), adapters: adapters, files: files,
        database: database, limits: .init(turn: turn), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }))
    engine.start()
    service.start()
  }

  /// Ends as a server does on SIGTERM.
  func stop() {
    service.prepareToStop()
    engine.stop()
    service.waitUntilStopped(.seconds(120))
  }

  func upload(_ bytes: [UInt8]) throws -> String {
    try files.add(bytes, filename: "rows.jsonl", purpose: "fine-tune", createdAt: 1).id
  }

  func create(
    training: String, validation: String? = nil, samplePrompts: [String] = [],
    _ settings: KeyValuePairs<String, JSONValue>
  ) throws -> FineTuningJob {
    try service.create(
      FineTuningRequest(
        model: "base", initial: nil, trainingFile: training, validationFile: validation, suffix: nil, seed: 7,
        method: .supervised,
        hyperparameters: JSONObject(keepingFirst: settings.map { (key: $0.key, value: $0.value) }), metadata: nil,
        samplePrompts: samplePrompts))
  }

  func job(_ id: String) throws -> FineTuningJob { try service.queue.sync { try service.job(id) } }

  /// Pauses or cancels.
  /// - Returns: the job as it stands still; `nil` if that was not possible any more
  func steer(_ id: String, _ how: (FineTuningService) -> Steering) -> FineTuningJob? {
    let answer = Box<FineTuningJob?>(nil)
    let answered = Flag()
    let steering = how(service)
    service.queue.sync {
      steering(id) { result in
        answer.value = try? result.get()
        answered.set()
      }
    }
    #expect(answered.wait())
    return answer.value
  }

  typealias Steering = (String, @escaping (Result<FineTuningJob, FineTuningError>) -> Void) -> Void

  func pause(_ id: String) -> FineTuningJob? { steer(id) { $0.pause } }
  func cancel(_ id: String) -> FineTuningJob? { steer(id) { $0.cancel } }

  func resume(_ id: String) throws { _ = try service.queue.sync { try service.resume(id) } }

  /// What was told of steps, in its order, without ids and times.
  func told(_ id: String) throws -> [String] {
    var lines: [String] = []
    try database.forEachStepEvent(of: id) { record in
      let event = record.object
      let data = event?["data"].map { String(decoding: $0.encoded, as: UTF8.self) } ?? ""
      lines.append("\(event?["type"]?.string ?? "") \(event?["message"]?.string ?? "") \(data)")
    }
    return lines
  }

  /// Waits until the job has told so much of its steps, or is over.
  func awaitEvents(_ count: Int, of id: String) throws {
    #expect(eventually { ((try? told(id).count) ?? 0) >= count || ((try? job(id).status.isOver) ?? false) })
  }

  func awaitEnd(_ id: String) throws -> FineTuningJob {
    #expect(eventually { (try? job(id).status.isOver) ?? false })
    return try job(id)
  }

  /// The hash of the files of the adapter that a job made.
  func result(_ job: FineTuningJob) -> String? {
    job.fineTunedModel.flatMap { adapters[$0]?.current?.contentHash }
  }
}
