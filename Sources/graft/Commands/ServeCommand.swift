import Tokenization
import Formats
import ArgumentParser
import Foundation
import Kernels
import Logging
import Model
import Serve
import Synchronization

struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Answers OpenAI-style requests over HTTP.",
    discussion: """
      curl localhost:8080/v1/completions -d '{"prompt": "The capital of France is", "max_tokens": 8}'
      curl 'localhost:8080/v1/completions?adapter=NAME' -d '{"prompt": "..."}'
      """)

  @OptionGroup(title: "Model") var options: ModelOptions

  @OptionGroup(title: "Log") var log: LogOptions

  @Option(help: "The id under which the base is listed (default: the file's or folder's stem).")
  var servedModelName: String = ""

  @OptionGroup(title: "Listening") var listening: ListeningOptions

  @OptionGroup(title: "Adapters") var adapterOptions: AdapterOptions

  @OptionGroup(title: "Requests") var requestOptions: RequestOptions

  @OptionGroup(title: "Fine-tuning") var jobOptions: FineTuningOptions

  @OptionGroup var template: ChatTemplateOptions

  func validate() throws {
    try options.requireModel()
    guard (0...65_535).contains(listening.port) else { throw ValidationError("--port must be between 0 and 65,535") }
    guard listening.tlsCertificate.isEmpty == listening.tlsKey.isEmpty else {
      throw ValidationError("--tls-certificate and --tls-key go together")
    }
    guard listening.insecure || !listening.apiKey.isEmpty || AccessPolicy.isLoopback(listening.host) else {
      throw ValidationError(
        "--host \(listening.host) is beyond loopback: give --api-key KEY, or --insecure to serve everybody who reaches the port"
      )
    }
    for origin in origins where origin != "*" && !origin.contains("://") {
      throw ValidationError("--allowed-origins takes origins such as https://a.example, not '\(origin)'")
    }
    guard adapterOptions.keepVersions >= 1 else { throw ValidationError("--keep-versions must be at least 1") }
    guard (0...0.9).contains(jobOptions.trainingShare) else {
      throw ValidationError("--training-share must be between 0 and 0.9")
    }
    guard (0...1).contains(requestOptions.batchShare) else {
      throw ValidationError("--batch-share must be between 0 and 1")
    }
    guard (0...36500).contains(jobOptions.keepFiles) else {
      throw ValidationError("--keep-files must be between 0 and 36,500")
    }
    guard (0...36500).contains(requestOptions.responsesRetention) else {
      throw ValidationError("--responses-retention must be between 0 and 36,500")
    }
    // A response of the longest conversation has its input, its output and all of the conversation.
    guard requestOptions.maxResponsesSize.bytes >= 64 << 20 else {
      throw ValidationError("--max-responses-size must be at least 64MiB")
    }
    for (name, value) in [
      ("max-running", requestOptions.maxRunning), ("max-queue", requestOptions.maxQueue),
      ("target-itl", requestOptions.targetITL), ("training-turn", jobOptions.trainingTurn),
      ("keep-checkpoints", jobOptions.keepCheckpoints),
    ] {
      guard (1...1_000_000).contains(value) else {
        throw ValidationError("--\(name) must be between 1 and 1,000,000")
      }
    }
  }

  func run() throws {
    let logger = log.logger
    let report = ServiceReport(logger: logger)
    report.loading(options.modelStem)
    if log.logPrompts { logger.warning("the text of every prompt is written to this log, as --log-prompts says") }
    // Before anything is prepared, so that the folder of another running server is left alone.
    let dataFolder = try DataFolder(URL(filePath: options.dataDir))
    let database = try MetadataDatabase(dataFolder)
    try warnAboutDataFolder(dataFolder, database, logger)
    let loop = try EventLoop()
    let readiness = Readiness()
    let server = try HTTPServer(
      loop: loop, configuration: configuration(logger), handler: accessPolicy.guarding(readiness.handler))
    let startup = Startup()
    let thread = Thread { [self, logger] in
      do {
        let serving = try start(dataFolder, database, loop, server, readiness, report, logger)
        startup.state.withLock { $0 = .done(serving) }
      } catch {
        startup.state.withLock { $0 = .failed(error) }
        loop.stop()
      }
    }
    thread.name = "startup"
    thread.stackSize = 8 << 20
    thread.start()
    var isStopping = false
    loop.onSignals([SIGINT, SIGTERM]) { number in
      // A second signal ends the process at once.
      if isStopping { _exit(128 + number) }
      isStopping = true
      logger.info("stopping")
      report.stopping()
      readiness.stop()
      Thread.detachNewThread {
        // Running streams end with an error event, and then their connections close.
        startup.serving?.stop()
        server.stop(deadline: .seconds(5)) { loop.stop() }
      }
    }
    loop.run()
    switch startup.state.withLock({ $0 }) {
    case .done: break
    case .running: throw ExitCode.interrupted
    case .failed(let error): throw error
    }
  }

  /// Logs what is unusual in the data folder. Nothing there is changed.
  private func warnAboutDataFolder(_ folder: DataFolder, _ database: MetadataDatabase, _ logger: Logger) throws {
    if let exposure = folder.exposure {
      logger.warning(
        "others may read the data folder", metadata: ["path": .string(folder.url.path), "reason": .string(exposure)])
    }
    let unrecorded = try folder.unrecorded(in: database)
    if !unrecorded.isEmpty {
      logger.warning(
        "no record names some of what is stored; 'graft adapters prune' would delete it",
        metadata: ["stored": .string(unrecorded.summary)])
    }
  }

  /// Loads the model and the adapters, then gives requests to the routes.
  private func start(
    _ dataFolder: DataFolder, _ database: MetadataDatabase, _ loop: EventLoop, _ server: HTTPServer,
    _ readiness: Readiness, _ report: ServiceReport, _ logger: Logger
  ) throws -> Serving {
    if let warning = options.kernel.warning() { logger.warning("\(warning)") }
    let opened = try OpenedModel(options)
    let chat = try chatFormat(opened.tokenizer, logger)
    let model = try LoadedModel(opened)
    let name = servedModelName.isEmpty ? options.modelStem : servedModelName
    let base = model.base
    let store = try AdapterStore(
      dataFolder: dataFolder, database: database,
      binding: .init(
        fingerprint: base.fingerprint, preparer: AdapterPreparer(base: base, mode: options.arithmetic.compute)),
      folder: adapterOptions.adapters.isEmpty ? nil : URL(filePath: adapterOptions.adapters),
      settings: .init(
        memory: adapterOptions.adapterMemory.bytes, versionsKept: adapterOptions.keepVersions,
        sizeLimit: adapterOptions.maxAdapterSize.bytes,
        reservedNames: [name]),
      logger: logger)
    for (name, error) in try store.scan() {
      logger.warning("adapter refused", metadata: ["name": .string(name), "reason": .string(error.advice)])
    }
    for listing in store.listings {
      guard let warning = listing.warning else { continue }
      logger.warning(
        "adapter's name", metadata: ["name": .string(listing.record.name), "reason": .string(warning)])
    }
    let engine = Engine(
      transformer: model.transformer, cache: model.cache, tokenizer: model.tokenizer,
      settings: .init(
        maxRunning: requestOptions.maxRunning, maxQueue: requestOptions.maxQueue,
        cachesPrefixes: requestOptions.prefixCache == .on,
        speculates: requestOptions.speculation == .on, stepTarget: .milliseconds(requestOptions.targetITL),
        trainingShare: jobOptions.trainingShare,
        batchShare: requestOptions.batchShare))
    let files = try FileStore(
      dataFolder: dataFolder, database: database, sizeLimit: jobOptions.maxFileSize.bytes,
      daysKept: jobOptions.keepFiles > 0 ? jobOptions.keepFiles : nil)
    let fineTuning = try FineTuningService(
      dataFolder: dataFolder,
      environment: .init(
        engine: engine, compute: model.transformer.compute, base: base, baseName: name, tokenizer: model.tokenizer,
        chat: chat, adapters: store,
        files: files, database: database,
        limits: .init(
          memory: jobOptions.trainingMemory?.bytes, checkpointsKept: jobOptions.keepCheckpoints,
          turn: .seconds(jobOptions.trainingTurn)), logger: logger))
    let context = ServerContext(
      engine: engine, tokenizer: model.tokenizer, adapters: store, base: base, contextLength: model.contextLength,
      servedModelName: name,
      startedAt: Int(Date().timeIntervalSince1970),
      responses: ResponseStore(
        database: database, daysKept: requestOptions.responsesRetention,
        maximumBytes: requestOptions.maxResponsesSize.bytes), chat: chat)
    let batches = try BatchService(
      dataFolder: dataFolder, context: context, files: files, loop: loop, logger: logger)
    let routes = APIRoutes(
      context: context, fineTuning: fineTuning, batches: batches,
      apiKey: listening.apiKey.isEmpty ? nil : listening.apiKey, logger: logger, logsPrompts: log.logPrompts)
    engine.start()
    fineTuning.start()
    batches.start()
    readiness.open(routes.handler) { routes.unreadiness }
    let url = "\(listening.tlsKey.isEmpty ? "http" : "https")://\(listening.host):\(server.port)"
    try dataFolder.announce(url)
    let kernels = model.transformer.compute.kernels.instructionSet.rawValue
    if log.format == .terminal {
      let block = StartupBlock(
        model: name, details: "\(options.modelURL.lastPathComponent), --compute \(options.arithmetic.compute.rawValue)",
        adapters: store.served.map(\.name), kernels: kernels, threads: options.arithmetic.threads,
        keyValueBytes: options.kvMemory.bytes, adapterBytes: adapterOptions.adapterMemory.bytes,
        contextLength: model.contextLength,
        url: url, hasKey: !listening.apiKey.isEmpty)
      writeError(block.text(for: .error))
    } else {
      logger.info(
        "listening",
        metadata: [
          "url": .string(url), "model": .string(name), "adapters": "\(store.served.count)",
          "kernels": .string(kernels), "threads": "\(options.arithmetic.threads)",
        ])
    }
    report.ready("serving \(name) at \(url)", on: loop) { routes.isAlive }
    return Serving(engine: engine, fineTuning: fineTuning, batches: batches)
  }

  /// The model's chat format. If it has none, that is logged once.
  private func chatFormat(_ tokenizer: Tokenizer, _ logger: Logger) throws -> Result<ChatFormat, ModelError> {
    let format = try template.format(tokenizer, name: options.modelStem)
    if case .failure(let error) = format { logger.warning("no chats", metadata: ["reason": "\(error)"]) }
    return format
  }

  /// `--allowed-origins` may be given several times, or as one value with commas.
  private var origins: [String] { listening.allowedOrigins.flatMap { $0.split(separator: ",").map(String.init) } }

  private var accessPolicy: AccessPolicy {
    let hosts: AccessPolicy.Hosts =
      if !listening.apiKey.isEmpty { .any } else if AccessPolicy.isLoopback(listening.host) { .loopback } else {
        .addresses
      }
    return AccessPolicy(
      hosts: hosts, allowedHosts: listening.allowedHost.flatMap { $0.split(separator: ",").map(String.init) },
      allowedOrigins: origins)
  }

  private func configuration(_ logger: Logger) -> HTTPConfiguration {
    var configuration = HTTPConfiguration()
    configuration.host = listening.host
    configuration.port = UInt16(listening.port)
    if !listening.tlsKey.isEmpty {
      configuration.tls = .init(certificatePath: listening.tlsCertificate, keyPath: listening.tlsKey)
    }
    configuration.errorBody = APIRoutes.errorBody
    configuration.onEnd = { summary in
      let milliseconds = (summary.duration / .milliseconds(1) * 10).rounded() / 10
      // Whatever watches the server asks these every few seconds.
      let isPoll = ["/health", "/ready"].contains(summary.path)
      logger.log(
        level: isPoll ? .debug : .info, "request",
        metadata: [
          "id": .string(summary.id), "method": .string(summary.method), "path": .string(summary.path),
          "status": .string(summary.status.map(String.init) ?? "none"), "ms": "\(milliseconds)",
          "client": .string(summary.remoteAddress + (summary.isComplete ? "" : " (left)")),
        ])
    }
    return configuration
  }
}

/// The parts of the server that are stopped in order.
private struct Serving: Sendable {
  let engine: Engine
  let fineTuning: FineTuningService
  let batches: BatchService

  /// Ends every generation, and saves the state of the running job.
  func stop() {
    fineTuning.prepareToStop()
    batches.stop()
    engine.stop()
    fineTuning.waitUntilStopped(.seconds(5))
  }
}

/// How far the server has started: set by the starting thread, read by the loop's thread.
private final class Startup: Sendable {
  enum State {
    case running
    case failed(any Error)
    case done(Serving)
  }

  let state = Mutex(State.running)

  var serving: Serving? {
    if case .done(let serving) = state.withLock({ $0 }) { serving } else { nil }
  }
}
