import Foundation
import Formats
import Kernels
import Model

/// Tokens a second in prefill and decode, beside the machine's limits.
struct SpeedReport {
  let bench: BenchCommand
  let name: String
  let instructionSet: String
  /// Prompt tokens a second, the median of the repetitions.
  let prefill: Double
  /// Generated tokens a second in all sequences together, the median of the repetitions.
  let decode: Double
  /// Bytes of the base that are read for a token.
  let bytesPerToken: Int
  /// Multiplications and additions for a token.
  let operationsPerToken: Int
  /// Bytes of one adapter.
  let adapterBytes: Int
  let limits: MachineLimits

  init(bench: BenchCommand, pool: ThreadPool) throws {
    self.bench = bench
    name = bench.shape ?? URL(filePath: bench.model).lastPathComponent
    let transformer = try bench.transformer(
      bench.arithmetic.compute, pool: pool, context: max(bench.sizes.prompt, bench.sizes.depth + bench.sizes.generate))
    instructionSet = transformer.compute.kernels.instructionSet.rawValue
    bytesPerToken = transformer.base.bytesPerToken
    operationsPerToken = transformer.base.operationsPerToken
    limits = MachineLimits.measure(transformer.compute)
    let cache = try KeyValueCache(
      config: transformer.base.config, bytes: 4 << 30, element: bench.keyValue.element(bench.arithmetic.compute))
    let sets = (0..<bench.load.adapters).map { index in
      AdapterSet([
        (.synthetic(base: transformer.base, rank: bench.load.rank, seed: index, mode: bench.arithmetic.compute), 1)
      ])
    }
    let tokens = (0..<bench.sizes.prompt).map { Int32($0 * 7919 % Base.syntheticVocabulary) }
    let sequences = (0..<bench.load.streams).map { sets.isEmpty ? AdapterSet.none : sets[$0 % sets.count] }
    var rates: (prefill: [Double], decode: [Double]) = ([], [])
    var bar = ProgressBar(title: "Measuring")
    // The first round fills caches and page tables; it is not counted.
    for round in 0...bench.sizes.repetitions {
      let prefill = try Self.time(
        transformer, cache, tokens, [sequences[0]], after: 0, chunk: transformer.maxRows)
      let decode = try Self.time(
        transformer, cache, Array(repeating: 5, count: bench.sizes.generate), sequences, after: bench.sizes.depth,
        chunk: 1)
      if round > 0 {
        rates.prefill.append(Double(bench.sizes.prompt) / prefill)
        rates.decode.append(Double(bench.sizes.generate * sequences.count) / decode)
      }
      try bar.update(Double(round + 1) / Double(bench.sizes.repetitions + 1))
    }
    bar.finish()
    prefill = Self.median(rates.prefill)
    decode = Self.median(rates.decode)
    adapterBytes = sets.first?.terms.first?.adapter.bytes ?? 0
  }

  /// Seconds to compute the tokens in every sequence.
  /// - Parameters:
  ///   - depth: positions before them, whose keys and values stay as they are
  ///   - chunk: tokens of each sequence in one pass. With one token, every pass computes logits; with more, the last
  private static func time(
    _ transformer: Transformer, _ cache: KeyValueCache, _ tokens: [Int32], _ sequences: [AdapterSet],
    after depth: Int, chunk: Int
  ) throws -> Double {
    var tables = sequences.map { _ in BlockTable() }
    defer { for index in tables.indices { cache.release(&tables[index]) } }
    for index in tables.indices {
      guard cache.extend(&tables[index], to: depth + tokens.count) else {
        throw ModelError("key-value cache", reason: "too small for \(sequences.count) × \(depth + tokens.count) tokens")
      }
    }
    let clock = ContinuousClock()
    return clock.measure {
      for first in stride(from: 0, to: tokens.count, by: chunk) {
        let part = Array(tokens[first..<min(first + chunk, tokens.count)])
        let isLast = first + chunk >= tokens.count || chunk == 1
        let segments = zip(tables, sequences).map { table, adapters in
          ForwardBatch.Segment(
            tokens: part, position: depth + first, table: table, adapters: adapters,
            logits: isLast ? part.count - 1..<part.count : 0..<0)
        }
        transformer.forward(ForwardBatch(segments: segments), cache: cache) { _, _ in }
      }
    } / .seconds(1)
  }

  private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

  /// Bytes a second that decoding reads: a step reads the base once, and each adapter in use.
  private var bandwidth: Double {
    decode / Double(bench.load.streams)
      * Double(bytesPerToken + min(bench.load.adapters, bench.load.streams) * adapterBytes)
  }
  /// Operations a second of prefill.
  private var operations: Double { prefill * Double(operationsPerToken) }

  func printTable() {
    func line(_ title: String, _ value: String) {
      print(title.padding(toLength: 30, withPad: " ", startingAt: 0) + value)
    }
    func number(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }
    line("model", name)
    line("arithmetic", "\(bench.arithmetic.compute.rawValue), \(instructionSet), \(bench.arithmetic.threads) threads")
    line("keys and values", bench.keyValue.element(bench.arithmetic.compute).rawValue)
    if bench.load.adapters > 0 { line("adapters", "\(bench.load.adapters) of rank \(bench.load.rank)") }
    if bench.load.streams > 1 { line("sequences", "\(bench.load.streams)") }
    line("prefill (\(bench.sizes.prompt) tokens)", "\(number(prefill)) tokens/s")
    line(
      "decode (\(bench.sizes.generate) tokens\(bench.sizes.depth > 0 ? " after \(bench.sizes.depth)" : ""))",
      "\(number(decode)) tokens/s"
    )
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
      "model": .string(name), "compute": .string(bench.arithmetic.compute.rawValue),
      "kv_type": .string(bench.keyValue.element(bench.arithmetic.compute).rawValue), "kernels": .string(instructionSet),
      "threads": .integer(bench.arithmetic.threads), "prompt": .integer(bench.sizes.prompt),
      "generate": .integer(bench.sizes.generate),
      "depth": .integer(bench.sizes.depth),
      "adapters": .integer(bench.load.adapters), "rank": .integer(bench.load.rank),
      "sequences": .integer(bench.load.streams),
      "prefill_tokens_per_second": .number(prefill), "decode_tokens_per_second": .number(decode),
      "bytes_per_token": .integer(bytesPerToken), "operations_per_token": .integer(operationsPerToken),
      "read_bandwidth": .number(limits.readBandwidth), "integer_peak": .number(limits.integerPeak),
      "decode_share_of_bandwidth": .number(bandwidth / limits.readBandwidth),
      "prefill_share_of_peak": .number(operations / limits.integerPeak),
    ]
    print(String(decoding: value.encoded, as: UTF8.self))
  }
}
