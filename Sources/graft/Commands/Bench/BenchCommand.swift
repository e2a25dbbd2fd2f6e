import Formats
import ArgumentParser
import Foundation
import Kernels
import Model
import Serve

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measures prefill and decode as llama-bench does, beside the machine's limits.",
    discussion: """
      Prefill computes --prompt tokens of one sequence; decode --generate tokens one by one after --depth
      others, in --sequences sequences side by side. Each is repeated and the median shown.
      --accuracy compares the mode's distributions with f32's instead. --masks measures how long it takes to find
      the tokens that a JSON Schema allows. --drafts computes what drafts gain at given times of passes.
      """)

  @Option(help: "The base: a GGUF file or a model folder.")
  var model: String = ""

  @Option(help: "Random weights of a published model's size instead: 135m, 1b or 8b.")
  var shape: String?

  @Option(help: "Where prepared bases are kept.")
  var dataDir: String = DataFolder.defaultPath

  @OptionGroup(title: "Arithmetic") var arithmetic: ArithmeticOptions

  @OptionGroup(title: "What is measured") var sizes: BenchSizes

  @OptionGroup(title: "Adapters and sequences") var load: BenchLoad

  @Option(
    help: "Compares with f32 over this text: Kullback-Leibler divergence and agreement of the most probable token.")
  var accuracy: String?

  @Option(
    help: "Measures masks: a file of lines of JSON, each with a name, a schema and the tokens of a text under it.")
  var masks: String?

  @Option(
    help: """
      Computes what drafts gain: a file of lines of JSON, each with a name, the tokens of a prompt and an answer, and \
      pass_ms: the milliseconds of passes with 1, 2, 4, … rows. Needs no model.
      """)
  var drafts: String?

  @OptionGroup(title: "Arithmetic") var keyValue: KeyValueOptions

  @OptionGroup(title: "Arithmetic") var kernel: KernelOptions

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard drafts == nil || (shape == nil && model.isEmpty && accuracy == nil && masks == nil) else {
      throw ValidationError("--drafts needs no model, and measures nothing else")
    }
    guard drafts != nil || (shape == nil) != model.isEmpty else {
      throw ValidationError("give either --model or --shape")
    }
    if let shape, ModelConfig.published(shape) == nil { throw ValidationError("--shape must be 135m, 1b or 8b") }
    guard accuracy == nil || shape == nil else { throw ValidationError("--accuracy needs --model") }
    guard masks == nil || shape == nil else { throw ValidationError("--masks needs --model") }
    for (name, value) in [
      ("prompt", sizes.prompt), ("generate", sizes.generate), ("repetitions", sizes.repetitions),
      ("threads", arithmetic.threads),
    ] {
      guard (1...8192).contains(value) else { throw ValidationError("--\(name) must be between 1 and 8192") }
    }
    guard (0...64).contains(load.adapters) else { throw ValidationError("--adapters must be between 0 and 64") }
    guard (1...128).contains(load.streams) else { throw ValidationError("--sequences must be between 1 and 128") }
    let ranks = 1...TargetedProjection.maximumRank
    guard ranks.contains(load.rank) else {
      throw ValidationError("--rank must be between \(ranks.lowerBound) and \(ranks.upperBound)")
    }
    guard (0...131_072).contains(sizes.depth) else { throw ValidationError("--depth must be between 0 and 131072") }
  }

  func run() throws {
    if let drafts {
      let report = try DraftReport(path: drafts)
      return json ? report.printJSON() : report.printTable()
    }
    if let masks {
      let report = try MaskReport(bench: self, cases: masks)
      return json ? report.printJSON() : report.printTable()
    }
    kernel.writeWarning()
    let pool = ThreadPool(threads: arithmetic.threads)
    if let accuracy {
      let report = try AccuracyReport(bench: self, pool: pool, text: accuracy)
      return json ? report.printJSON() : report.printText()
    }
    let report = try SpeedReport(bench: self, pool: pool)
    json ? report.printJSON() : report.printTable()
  }

  /// The base of --model or --shape, for a compute mode.
  func base(_ mode: ComputeMode, pool: ThreadPool) throws -> Base {
    if let shape, let config = ModelConfig.published(shape) { return .synthetic(config, mode: mode) }
    let source = try openPublishedModel(at: URL(filePath: model))
    return try BaseStore(dataFolder: URL(filePath: dataDir)).open(source, mode: mode, pool: pool).base
  }

  func transformer(_ mode: ComputeMode, pool: ThreadPool, context: Int) throws -> Transformer {
    Transformer(
      base: try base(mode, pool: pool), compute: Compute(kernels: kernel.set, pool: pool, mode: mode),
      contextLength: context)
  }
}

/// How much a measurement computes.
struct BenchSizes: ParsableArguments {
  @Option(help: "Tokens of the prompt.")
  var prompt = 512

  @Option(help: "Tokens to generate.")
  var generate = 64

  @Option(help: "Tokens before the generated ones, whose keys and values are zeros.")
  var depth = 0

  @Option(help: "How often each is measured.")
  var repetitions = 5
}

/// What is computed side by side.
struct BenchLoad: ParsableArguments {
  @Option(help: "Random adapters on all linear modules: the prompt takes the first, each sequence one of them in turn.")
  var adapters = 0

  @Option(help: "Sequences decoded at once (default: one, or one an adapter).")
  var sequences: Int?

  @Option(help: "The adapters' rank.")
  var rank = 16

  /// Sequences that are decoded together.
  var streams: Int { sequences ?? max(adapters, 1) }
}
