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

  @OptionGroup var options: ModelOptions

  @Option(help: "The id under which the base is listed (default: the file's or folder's stem).")
  var servedModelName: String = ""

  @Option(help: "The address to listen on.")
  var host: String = "127.0.0.1"

  @Option(help: "The port to listen on; 0 takes a free one.")
  var port: Int = 8080

  @Option(help: "A folder of PEFT adapters, each a folder named as requests name it.")
  var adapters: String = ""

  @Option(help: "Memory for adapters, in KiB, MiB or GiB; those least recently used go back to the disk.")
  var adapterMemory: ByteSize = ByteSize(bytes: 1 << 30)

  @Option(help: "Most bytes that one adapter's files may have, in KiB, MiB or GiB.")
  var maxAdapterSize: ByteSize = ByteSize(bytes: 1 << 30)

  @Option(help: "How many versions of an adapter are kept.")
  var keepVersions: Int = 5

  @Option(help: "A key that every route but /health and /ready then demands as a Bearer token.")
  var apiKey: String = ""

  @Flag(help: "Listen beyond loopback without a key, for everybody who reaches the port.")
  var insecure = false

  @Option(
    help: "A name under which the server is reached without a key, beside localhost and addresses. May be repeated.")
  var allowedHost: [String] = []

  @Option(
    help: "Origins of web pages that may use the server (CORS): https://a.example,http://localhost:3000, or *.")
  var allowedOrigins: [String] = []

  @OptionGroup var template: ChatTemplateOptions

  @Option(help: "Requests that may run at once.")
  var maxRunning: Int = 256

  @Option(help: "Requests that may wait; those beyond are refused with 429.")
  var maxQueue: Int = 256

  @Option(help: "Keep what was computed for prompts that begin alike: on or off.")
  var prefixCache: Switch = .on

  @Option(help: "Compute tokens that may come next beside the next one, where that saves time: on or off.")
  var speculation: Switch = .on

  @Option(
    name: .customLong("target-itl"),
    help: "Milliseconds that a token should take at most while prompts are computed beside it.")
  var targetITL: Int = 200

  @Option(help: "The share of the time that training gets while requests leave none over, 0 to 0.9.")
  var trainingShare: Double = 0.1

  @Option(help: "How many rows of passes batches get for each row of other requests while these run, 0 to 1.")
  var batchShare: Double = 0.05

  @Option(help: "Most memory for a fine-tuning job beside the base, in KiB, MiB or GiB (default: what is free).")
  var trainingMemory: ByteSize?

  @Option(help: "Seconds of training that a job may be ahead of one that waits, before it gives way.")
  var trainingTurn: Int = 60

  @Option(help: "How many of a job's checkpoints can be named; older ones go.")
  var keepCheckpoints: Int = 3

  @Option(help: "Days after which uploaded and result files go; 0 keeps them.")
  var keepFiles: Int = 0

  @Option(help: "Days for which responses are kept, to be read and continued; 0 keeps none.")
  var responsesRetention: Int = 30

  @Option(help: "Most bytes of an uploaded file, in KiB, MiB or GiB.")
  var maxFileSize: ByteSize = ByteSize(bytes: 512 << 20)

  @Option(help: "A PEM file with the certificate chain, to serve HTTPS.")
  var tlsCertificate: String = ""

  @Option(help: "The certificate's private key, a PEM file.")
  var tlsKey: String = ""

  func validate() throws {
    try options.requireModel()
    guard (0...65_535).contains(port) else { throw ValidationError("--port must be between 0 and 65,535") }
    guard tlsCertificate.isEmpty == tlsKey.isEmpty else {
      throw ValidationError("--tls-certificate and --tls-key go together")
    }
    guard insecure || !apiKey.isEmpty || AccessPolicy.isLoopback(host) else {
      throw ValidationError(
        "--host \(host) is beyond loopback: give --api-key KEY, or --insecure to serve everybody who reaches the port")
    }
    for origin in origins where origin != "*" && !origin.contains("://") {
      throw ValidationError("--allowed-origins takes origins such as https://a.example, not '\(origin)'")
    }
    guard keepVersions >= 1 else { throw ValidationError("--keep-versions must be at least 1") }
    guard (0...0.9).contains(trainingShare) else {
      throw ValidationError("--training-share must be between 0 and 0.9")
    }
    guard (0...1).contains(batchShare) else { throw ValidationError("--batch-share must be between 0 and 1") }
    guard (0...36500).contains(keepFiles) else { throw ValidationError("--keep-files must be between 0 and 36,500") }
    guard (0...36500).contains(responsesRetention) else {
      throw ValidationError("--responses-retention must be between 0 and 36,500")
    }
    for (name, value) in [
      ("max-running", maxRunning), ("max-queue", maxQueue), ("target-itl", targetITL), ("training-turn", trainingTurn),
      ("keep-checkpoints", keepCheckpoints),
    ] {
      guard (1...1_000_000).contains(value) else {
        throw ValidationError("--\(name) must be between 1 and 1,000,000")
      }
    }
  }

  func run() throws {
    var logger = Logger(label: "graft") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = .info
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
        let serving = try start(dataFolder, database, loop, server, readiness, logger)
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
    _ readiness: Readiness, _ logger: Logger
  ) throws -> Serving {
    if options.kernel.tilesAreRefused {
      logger.warning(
        "\(KernelOptions.refusal)",
        metadata: ["kernels": .string(options.kernel.set.instructionSet.rawValue)])
    }
    let opened = try OpenedModel(options)
    let chat = try chatFormat(opened.tokenizer, logger)
    let model = try LoadedModel(opened)
    let name = servedModelName.isEmpty ? options.modelStem : servedModelName
    let base = model.base
    let store = try AdapterStore(
      dataFolder: dataFolder, database: database,
      binding: .init(
        fingerprint: base.fingerprint, preparer: AdapterPreparer(base: base, mode: options.arithmetic.compute)),
      folder: adapters.isEmpty ? nil : URL(filePath: adapters),
      settings: .init(
        memory: adapterMemory.bytes, versionsKept: keepVersions, sizeLimit: maxAdapterSize.bytes,
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
        maxRunning: maxRunning, maxQueue: maxQueue, cachesPrefixes: prefixCache == .on,
        speculates: speculation == .on, stepTarget: .milliseconds(targetITL), trainingShare: trainingShare,
        batchShare: batchShare))
    let files = try FileStore(
      dataFolder: dataFolder, database: database, sizeLimit: maxFileSize.bytes,
      daysKept: keepFiles > 0 ? keepFiles : nil)
    let fineTuning = try FineTuningService(
      dataFolder: dataFolder,
      environment: .init(
        engine: engine, compute: model.transformer.compute, base: base, baseName: name, tokenizer: model.tokenizer,
        chat: chat, adapters: store,
        files: files, database: database,
        limits: .init(
          memory: trainingMemory?.bytes, checkpointsKept: keepCheckpoints,
          turn: .seconds(trainingTurn)), logger: logger))
    let context = ServerContext(
      engine: engine, tokenizer: model.tokenizer, adapters: store, base: base, contextLength: model.contextLength,
      servedModelName: name,
      startedAt: Int(Date().timeIntervalSince1970),
      responses: ResponseStore(database: database, daysKept: responsesRetention), chat: chat)
    let batches = try BatchService(
      dataFolder: dataFolder, context: context, files: files, loop: loop, logger: logger)
    let routes = APIRoutes(
      context: context, fineTuning: fineTuning, batches: batches, apiKey: apiKey.isEmpty ? nil : apiKey, logger: logger)
    engine.start()
    fineTuning.start()
    batches.start()
    readiness.open(routes.handler) { routes.unreadiness }
    logger.info(
      "listening",
      metadata: [
        "url": .string("\(tlsKey.isEmpty ? "http" : "https")://\(host):\(server.port)"),
        "model": .string(name), "adapters": "\(store.served.count)",
        "kernels": .string(model.transformer.compute.kernels.instructionSet.rawValue),
        "threads": "\(options.arithmetic.threads)",
      ])
    return Serving(engine: engine, fineTuning: fineTuning, batches: batches)
  }

  /// The model's chat format. If it has none, that is logged once.
  private func chatFormat(_ tokenizer: Tokenizer, _ logger: Logger) throws -> Result<ChatFormat, ModelError> {
    let format = try template.format(tokenizer, name: options.modelStem)
    if case .failure(let error) = format { logger.warning("no chats", metadata: ["reason": "\(error)"]) }
    return format
  }

  /// `--allowed-origins` may be given several times, or as one value with commas.
  private var origins: [String] { allowedOrigins.flatMap { $0.split(separator: ",").map(String.init) } }

  private var accessPolicy: AccessPolicy {
    let hosts: AccessPolicy.Hosts =
      if !apiKey.isEmpty { .any } else if AccessPolicy.isLoopback(host) { .loopback } else { .addresses }
    return AccessPolicy(
      hosts: hosts, allowedHosts: allowedHost.flatMap { $0.split(separator: ",").map(String.init) },
      allowedOrigins: origins)
  }

  private func configuration(_ logger: Logger) -> HTTPConfiguration {
    var configuration = HTTPConfiguration()
    configuration.host = host
    configuration.port = UInt16(port)
    if !tlsKey.isEmpty { configuration.tls = .init(certificatePath: tlsCertificate, keyPath: tlsKey) }
    configuration.errorBody = APIRoutes.errorBody
    configuration.onEnd = { summary in
      let milliseconds = (summary.duration / .milliseconds(1) * 10).rounded() / 10
      logger.info(
        "request",
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
