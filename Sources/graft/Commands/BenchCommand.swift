import Tokenization
import Formats
public import ArgumentParser
import Foundation
public import Kernels
import Model

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measures prefill and decode as llama-bench does, beside the machine's limits.",
    discussion: """
      Prefill computes --prompt tokens of one sequence; decode --generate tokens one by one from an empty context, in
      --sequences sequences side by side. Each is repeated and the median shown.
      --accuracy compares the mode's distributions with f32's instead.
      """)

  @Option(help: "The base: a GGUF file or a model folder.")
  var model: String = environment("MODEL") ?? ""

  @Option(help: "Random weights of a published model's size instead: 135m, 1b or 8b.")
  var shape: String?

  @Option(help: "Where prepared bases are kept.")
  var dataDir: String = environment("DATA_DIR") ?? ModelOptions.defaultDataFolder

  @Option(help: "Arithmetic: \(ComputeMode.allCases.map(\.rawValue).joined(separator: ", ")).")
  var compute: ComputeMode = environment("COMPUTE") ?? .fast

  @Option(help: "Threads that compute.")
  var threads: Int = environment("THREADS") ?? ProcessInfo.processInfo.activeProcessorCount

  @Option(help: "Tokens of the prompt.")
  var prompt = 512

  @Option(help: "Tokens to generate.")
  var generate = 64

  @Option(help: "How often each is measured.")
  var repetitions = 5

  @Option(help: "Random adapters on all linear modules: the prompt takes the first, each sequence one of them in turn.")
  var adapters = 0

  @Option(help: "Sequences decoded at once (default: one, or one an adapter).")
  var sequences: Int?

  @Option(help: "Their rank.")
  var rank = 16

  @Option(
    help: "Instruction set: \(InstructionSet.allCases.map(\.rawValue).joined(separator: ", ")) (default: the widest).")
  var kernels: InstructionSet = KernelSet.best.instructionSet

  @Option(
    help: "Compares with f32 over this text: Kullback-Leibler divergence and agreement of the most probable token.")
  var accuracy: String?

  @OptionGroup var keyValue: KeyValueOptions

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard (shape == nil) != model.isEmpty else { throw ValidationError("give either --model or --shape") }
    if let shape, ModelConfig.published(shape) == nil { throw ValidationError("--shape must be 135m, 1b or 8b") }
    guard accuracy == nil || shape == nil else { throw ValidationError("--accuracy needs --model") }
    for (name, value) in [
      ("prompt", prompt), ("generate", generate), ("repetitions", repetitions), ("threads", threads),
    ] {
      guard (1...8192).contains(value) else { throw ValidationError("--\(name) must be between 1 and 8192") }
    }
    guard (0...64).contains(adapters) else { throw ValidationError("--adapters must be between 0 and 64") }
    guard (1...128).contains(streams) else { throw ValidationError("--sequences must be between 1 and 128") }
    guard (1...512).contains(rank) else { throw ValidationError("--rank must be between 1 and 512") }
    guard KernelSet(kernels) != nil else { throw ValidationError("this machine has no \(kernels.rawValue)") }
  }

  var streams: Int { sequences ?? max(adapters, 1) }

  func run() throws {
    let pool = ThreadPool(threads: threads)
    if let accuracy { return try AccuracyReport(bench: self, pool: pool, text: accuracy).print() }
    let report = try SpeedReport(bench: self, pool: pool)
    json ? report.printJSON() : report.printTable()
  }

  /// The base in a mode, of the model or the shape.
  func base(_ mode: ComputeMode, pool: ThreadPool) throws -> Base {
    if let shape, let config = ModelConfig.published(shape) { return .synthetic(config, mode: mode) }
    let source = try openPublishedModel(at: URL(filePath: model))
    return try BaseStore(dataFolder: URL(filePath: dataDir)).open(source, mode: mode, pool: pool).base
  }

  func transformer(_ mode: ComputeMode, pool: ThreadPool, context: Int) throws -> Transformer {
    guard let kernels = KernelSet(kernels) else { throw ValidationError("no such kernels") }
    return Transformer(
      base: try base(mode, pool: pool), compute: Compute(kernels: kernels, pool: pool, mode: mode),
      contextLength: context)
  }
}

extension InstructionSet: ExpressibleByArgument {}

/// Tokens a second, and their shares of the machine's limits.
private struct SpeedReport {
  let bench: BenchCommand
  let name: String
  let instructionSet: String
  let prefill: Double
  let decode: Double
  let bytesPerToken: Int
  let operationsPerToken: Int
  /// Of one adapter.
  let adapterBytes: Int
  let limits: MachineLimits

  init(bench: BenchCommand, pool: ThreadPool) throws {
    self.bench = bench
    name = bench.shape ?? URL(filePath: bench.model).lastPathComponent
    let transformer = try bench.transformer(bench.compute, pool: pool, context: max(bench.prompt, bench.generate))
    instructionSet = transformer.compute.kernels.instructionSet.rawValue
    bytesPerToken = transformer.base.bytesPerToken
    operationsPerToken = transformer.base.operationsPerToken
    limits = MachineLimits.measure(transformer.compute)
    let cache = try KeyValueCache(
      config: transformer.base.config, bytes: 4 << 30, element: bench.keyValue.element(bench.compute))
    let sets = (0..<bench.adapters).map { index in
      AdapterSet([(.synthetic(base: transformer.base, rank: bench.rank, seed: index, mode: bench.compute), 1)])
    }
    let tokens = (0..<bench.prompt).map { Int32($0 * 7919 % Base.syntheticVocabulary) }
    let sequences = (0..<bench.streams).map { sets.isEmpty ? AdapterSet.none : sets[$0 % sets.count] }
    var rates: (prefill: [Double], decode: [Double]) = ([], [])
    var bar = ProgressBar(title: "Measuring")
    // The first round warms caches and page tables and does not count.
    for round in 0...bench.repetitions {
      let prefill = try Self.time(transformer, cache, tokens, [sequences[0]], chunk: transformer.maxRows)
      let decode = try Self.time(
        transformer, cache, Array(repeating: 5, count: bench.generate), sequences, chunk: 1)
      if round > 0 {
        rates.prefill.append(Double(bench.prompt) / prefill)
        rates.decode.append(Double(bench.generate * sequences.count) / decode)
      }
      try bar.update(Double(round + 1) / Double(bench.repetitions + 1))
    }
    bar.finish()
    prefill = Self.median(rates.prefill)
    decode = Self.median(rates.decode)
    adapterBytes = sets.first?.terms.first?.adapter.bytes ?? 0
  }

  /// Seconds to compute the tokens in every sequence, so many rows of each a pass, with the logits of each pass's last.
  private static func time(
    _ transformer: Transformer, _ cache: KeyValueCache, _ tokens: [Int32], _ sequences: [AdapterSet], chunk: Int
  ) throws -> Double {
    var tables = sequences.map { _ in BlockTable() }
    defer { for index in tables.indices { cache.release(&tables[index]) } }
    for index in tables.indices {
      guard cache.extend(&tables[index], to: tokens.count) else {
        throw ModelError("key-value cache", reason: "too small for \(sequences.count) × \(tokens.count) tokens")
      }
    }
    let clock = ContinuousClock()
    return clock.measure {
      for first in stride(from: 0, to: tokens.count, by: chunk) {
        let piece = Array(tokens[first..<min(first + chunk, tokens.count)])
        let isLast = first + chunk >= tokens.count || chunk == 1
        let segments = zip(tables, sequences).map { table, adapters in
          ForwardBatch.Segment(
            tokens: piece, position: first, table: table, adapters: adapters,
            logits: isLast ? piece.count - 1..<piece.count : 0..<0)
        }
        transformer.forward(ForwardBatch(segments: segments), cache: cache) { _, _ in }
      }
    } / .seconds(1)
  }

  private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

  /// A step reads the base once, and every sequence's adapter.
  private var bandwidth: Double {
    decode / Double(bench.streams) * Double(bytesPerToken + min(bench.adapters, bench.streams) * adapterBytes)
  }
  private var operations: Double { prefill * Double(operationsPerToken) }

  func printTable() {
    func line(_ title: String, _ value: String) {
      print(title.padding(toLength: 30, withPad: " ", startingAt: 0) + value)
    }
    func number(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }
    line("model", name)
    line("arithmetic", "\(bench.compute.rawValue), \(instructionSet), \(bench.threads) threads")
    line("keys and values", bench.keyValue.element(bench.compute).rawValue)
    if bench.adapters > 0 { line("adapters", "\(bench.adapters) of rank \(bench.rank)") }
    if bench.streams > 1 { line("sequences", "\(bench.streams)") }
    line("prefill (\(bench.prompt) tokens)", "\(number(prefill)) tokens/s")
    line("decode (\(bench.generate) tokens)", "\(number(decode)) tokens/s")
    line("read bandwidth", "\(number(limits.readBandwidth / 1e9)) GB/s")
    line("integer peak", "\(number(limits.integerPeak / 1e9)) Gop/s")
    line(
      "decode reads",
      "\(number(bandwidth / 1e9)) GB/s, \(number(100 * bandwidth / limits.readBandwidth, 0)) % of the bandwidth")
    line(
      "prefill computes",
      "\(number(operations / 1e9)) Gop/s, \(number(100 * operations / limits.integerPeak, 0)) % of the peak")
  }

  func printJSON() {
    let value: JSONValue = [
      "model": .string(name), "compute": .string(bench.compute.rawValue),
      "kv_type": .string(bench.keyValue.element(bench.compute).rawValue), "kernels": .string(instructionSet),
      "threads": .integer(bench.threads), "prompt": .integer(bench.prompt), "generate": .integer(bench.generate),
      "adapters": .integer(bench.adapters), "rank": .integer(bench.rank), "sequences": .integer(bench.streams),
      "prefill_tokens_per_second": .number(prefill), "decode_tokens_per_second": .number(decode),
      "bytes_per_token": .integer(bytesPerToken), "operations_per_token": .integer(operationsPerToken),
      "read_bandwidth": .number(limits.readBandwidth), "integer_peak": .number(limits.integerPeak),
      "decode_share_of_bandwidth": .number(bandwidth / limits.readBandwidth),
      "prefill_share_of_peak": .number(operations / limits.integerPeak),
    ]
    print(String(decoding: value.encoded, as: UTF8.self))
  }
}

/// How far a mode's distributions are from f32's over a text.
private struct AccuracyReport {
  let mode: ComputeMode
  let element: KeyValueLayout.Element
  let tokens: Int
  /// Mean of Σ p·(log p − log q) per token, p of f32.
  let divergence: Double
  let agreement: Double

  init(bench: BenchCommand, pool: ThreadPool, text: String) throws {
    mode = bench.compute
    element = bench.keyValue.element(mode)
    let tokenizer = try Tokenizer(openTokenizer(at: URL(filePath: bench.model)), name: bench.model)
    guard let data = FileManager.default.contents(atPath: text) else {
      throw ModelError(text, reason: "cannot be read")
    }
    let ids = tokenizer.encode(String(decoding: data, as: UTF8.self), parsingSpecialTokens: false)
    let window = 512
    let exact = try bench.transformer(.f32, pool: pool, context: window)
    let rounded = try bench.transformer(bench.compute, pool: pool, context: window)
    var (divergence, agreed, count) = (0.0, 0, 0)
    var bar = ProgressBar(title: "Comparing")
    let vocabulary = exact.base.config.vocabularySize
    let caches = try [.f32, element].map {
      try KeyValueCache(config: exact.base.config, bytes: 1 << 30, element: $0)
    }
    for first in stride(from: 0, to: ids.count, by: window) {
      let piece = Array(ids[first..<min(first + window, ids.count)])
      var tables = [BlockTable(), BlockTable()]
      for i in 0...1 { _ = caches[i].extend(&tables[i], to: piece.count) }
      for start in stride(from: 0, to: piece.count, by: 64) {
        let chunk = Array(piece[start..<min(start + 64, piece.count)])
        func batch(_ table: BlockTable) -> ForwardBatch {
          ForwardBatch(segments: [
            .init(tokens: chunk, position: start, table: table, adapters: .none, logits: 0..<chunk.count)
          ])
        }
        var reference: [Float] = []
        exact.forward(batch(tables[0]), cache: caches[0]) { logits, ld in
          for row in 0..<chunk.count { reference += UnsafeBufferPointer(start: logits + row * ld, count: vocabulary) }
        }
        rounded.forward(batch(tables[1]), cache: caches[1]) { logits, ld in
          for row in 0..<chunk.count {
            let q = LogitRow(UnsafeBufferPointer(start: logits + row * ld, count: vocabulary), compute: rounded.compute)
            reference[row * vocabulary..<(row + 1) * vocabulary].withUnsafeBufferPointer { values in
              let p = LogitRow(values, compute: exact.compute)
              let (sumP, sumQ) = (p.logSumExp, q.logSumExp)
              for i in 0..<vocabulary {
                let logP = Double(values[i]) - sumP
                divergence += exp(logP) * (logP - (Double(q.values[i]) - sumQ))
              }
              agreed += p.argmax == q.argmax ? 1 : 0
            }
            count += 1
          }
        }
        try bar.update(Double(first + start + chunk.count) / Double(ids.count))
      }
      for i in 0...1 { caches[i].release(&tables[i]) }
    }
    bar.finish()
    tokens = count
    self.divergence = divergence / Double(count)
    agreement = Double(agreed) / Double(count)
  }

  func print() {
    Swift.print(
      "\(mode.rawValue), keys and values in \(element.rawValue), against f32 over \(tokens) tokens: "
        + "divergence \(String(format: "%.2e", divergence)) per token, most probable token agrees in \(String(format: "%.2f", agreement * 100)) %"
    )
  }
}
