import ArgumentParser
import Serve

/// Where the server listens, and whom it answers.
struct ListeningOptions: ParsableArguments {
  @Option(help: "The address to listen on.")
  var host: String = "127.0.0.1"

  @Option(help: "The port to listen on; 0 takes a free one.")
  var port: Int = 8080

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

  @Option(help: "A PEM file with the certificate chain, to serve HTTPS.")
  var tlsCertificate: String = ""

  @Option(help: "The certificate's private key, a PEM file.")
  var tlsKey: String = ""
}

/// Which adapters are served, and how many are kept.
struct AdapterOptions: ParsableArguments {
  @Option(help: "A folder of adapters: folders named as requests name them, and files NAME.gguf.")
  var adapters: String = ""

  @Option(help: "Memory for adapters, in KiB, MiB or GiB; those least recently used go back to the disk.")
  var adapterMemory: ByteSize = ByteSize(bytes: 1 << 30)

  @Option(help: "Most bytes that one adapter's files may have, in KiB, MiB or GiB.")
  var maxAdapterSize: ByteSize = ByteSize(bytes: 1 << 30)

  @Option(help: "How many versions of an adapter are kept.")
  var keepVersions: Int = 5
}

/// How requests share the machine.
struct RequestOptions: ParsableArguments {
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

  @Option(help: "How many rows of passes batches get for each row of other requests while these run, 0 to 1.")
  var batchShare: Double = 0.05

  @Option(help: "Days for which responses are kept, to be read and continued; 0 keeps none.")
  var responsesRetention: Int = 30

  @Option(help: "Most bytes of all responses that are kept, in KiB, MiB or GiB; the oldest go first.")
  var maxResponsesSize: ByteSize = ByteSize(bytes: 4 << 30)
}

/// How jobs share the machine, and what is kept of them.
struct FineTuningOptions: ParsableArguments {
  @Option(help: "The share of the time that training gets while requests leave none over, 0 to 0.9.")
  var trainingShare: Double = 0.1

  @Option(help: "Most memory for a fine-tuning job beside the base, in KiB, MiB or GiB (default: what is free).")
  var trainingMemory: ByteSize?

  @Option(help: "Seconds of training that a job may be ahead of one that waits, before it gives way.")
  var trainingTurn: Int = 60

  @Option(help: "How many of a job's checkpoints can be named; older ones go.")
  var keepCheckpoints: Int = 3

  @Option(help: "Days after which uploaded and result files go; 0 keeps them.")
  var keepFiles: Int = 0

  @Option(help: "Most bytes of an uploaded file, in KiB, MiB or GiB.")
  var maxFileSize: ByteSize = ByteSize(bytes: 512 << 20)
}
