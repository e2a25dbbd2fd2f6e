import ArgumentParser
import Foundation
import Kernels
import Logging
import Model
import Serve

struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Answers OpenAI-style requests over HTTP.",
    discussion: """
      curl localhost:8080/v1/completions -d '{"prompt": "The capital of France is", "max_tokens": 8}'
      curl 'localhost:8080/v1/completions?adapter=NAME' -d '{"prompt": "..."}'
      """)

  @OptionGroup var options: ModelOptions

  @Option(help: "The id under which the base is listed (default: the file's or folder's stem).")
  var servedModelName: String = environment("SERVED_MODEL_NAME") ?? ""

  @Option(help: "The address to listen on.")
  var host: String = environment("HOST") ?? "127.0.0.1"

  @Option(help: "The port to listen on; 0 takes a free one.")
  var port: UInt16 = environment("PORT") ?? 8080

  @Option(help: "A folder of PEFT adapters, each a folder named as requests name it.")
  var adapters: String = environment("ADAPTERS") ?? ""

  @Option(help: "A key that every route but /health then demands as a Bearer token.")
  var apiKey: String = environment("API_KEY") ?? ""

  @Option(help: "Requests that may run at once.")
  var maxRunning: Int = environment("MAX_RUNNING") ?? 256

  @Option(help: "Requests that may wait; those beyond are refused with 429.")
  var maxQueue: Int = environment("MAX_QUEUE") ?? 256

  @Option(help: "Keep what was computed for prompts that begin alike: on or off.")
  var prefixCache: Switch = environment("PREFIX_CACHE") ?? .on

  @Option(
    name: .customLong("target-itl"),
    help: "Milliseconds that a token should take at most while prompts are computed beside it.")
  var targetITL: Int = environment("TARGET_ITL") ?? 200

  @Option(help: "A PEM file with the certificate chain, to serve HTTPS.")
  var tlsCertificate: String = environment("TLS_CERTIFICATE") ?? ""

  @Option(help: "The certificate's private key, a PEM file.")
  var tlsKey: String = environment("TLS_KEY") ?? ""

  func validate() throws {
    guard tlsCertificate.isEmpty == tlsKey.isEmpty else {
      throw ValidationError("--tls-certificate and --tls-key go together")
    }
    for (name, value) in [("max-running", maxRunning), ("max-queue", maxQueue), ("target-itl", targetITL)] {
      guard (1...1_000_000).contains(value) else {
        throw ValidationError("--\(name) must be between 1 and 1,000,000")
      }
    }
  }

  func run() throws {
    var logger = Logger(label: "graft") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = .info
    let model = try LoadedModel(options)
    let name = servedModelName.isEmpty ? options.modelStem : servedModelName
    let store = AdapterStore(
      folder: adapters.isEmpty ? nil : URL(filePath: adapters), base: model.base, mode: options.compute,
      reservedNames: [name])
    for (name, reason) in try store.scan() {
      logger.warning("adapter refused", metadata: ["name": .string(name), "reason": .string(reason)])
    }
    let engine = Engine(
      transformer: model.transformer, cache: model.cache, tokenizer: model.tokenizer,
      settings: .init(
        maxRunning: maxRunning, maxQueue: maxQueue, cachesPrefixes: prefixCache == .on,
        stepTarget: .milliseconds(targetITL)))
    let context = ServerContext(
      engine: engine, tokenizer: model.tokenizer, adapters: store, base: model.base, contextLength: model.contextLength,
      servedModelName: name,
      startedAt: Int(Date().timeIntervalSince1970))
    let loop = try EventLoop()
    let routes = APIRoutes(context: context, apiKey: apiKey.isEmpty ? nil : apiKey, logger: logger)
    let server = try HTTPServer(loop: loop, configuration: configuration, handler: routes.handler)
    engine.start()
    loop.onSignals([SIGINT, SIGTERM]) { _ in
      logger.info("stopping")
      // Running streams end with an error event, and then their connections close.
      engine.stop()
      server.stop(deadline: .seconds(5)) { loop.stop() }
    }
    logger.info(
      "listening",
      metadata: [
        "url": .string("\(tlsKey.isEmpty ? "http" : "https")://\(host):\(server.port)"),
        "model": .string(context.servedModelName), "adapters": "\(store.all.count)",
        "kernels": .string(model.transformer.compute.kernels.instructionSet.rawValue), "threads": "\(options.threads)",
      ])
    loop.run()
  }

  private var configuration: HTTPConfiguration {
    var configuration = HTTPConfiguration()
    configuration.host = host
    configuration.port = port
    if !tlsKey.isEmpty { configuration.tls = .init(certificatePath: tlsCertificate, keyPath: tlsKey) }
    configuration.errorBody = APIRoutes.errorBody
    return configuration
  }
}

enum Switch: String, CaseIterable, ExpressibleByArgument { case on, off }
