import Foundation
import Formats
import Kernels
import Model
import Tokenization

/// How far the distributions of a compute mode are from those of f32, over a text.
struct AccuracyReport {
  let mode: ComputeMode
  let instructionSet: InstructionSet
  let element: KeyValueLayout.Element
  let tokens: Int
  /// The mean of Σ p·(log p − log q) over all tokens, where p is f32's distribution and q the mode's.
  let divergence: Double
  /// The fraction of tokens for which both have the same most probable token.
  let agreement: Double

  init(bench: BenchCommand, pool: ThreadPool, text: String) throws {
    mode = bench.arithmetic.compute
    instructionSet = bench.kernel.set.instructionSet
    element = bench.keyValue.element(mode)
    let tokenizer = try Tokenizer(openTokenizer(at: URL(filePath: bench.model)), name: bench.model)
    guard let data = FileManager.default.contents(atPath: text) else {
      throw ModelError(text, reason: "cannot be read")
    }
    let ids = tokenizer.encode(String(decoding: data, as: UTF8.self), parsingSpecialTokens: false)
    let window = 512
    let exact = try bench.transformer(.f32, pool: pool, context: window)
    let rounded = try bench.transformer(bench.arithmetic.compute, pool: pool, context: window)
    var (divergence, agreed, count) = (0.0, 0, 0)
    var bar = ProgressBar(title: "Comparing")
    let vocabulary = exact.base.config.vocabularySize
    let caches = try [.f32, element].map {
      try KeyValueCache(config: exact.base.config, bytes: 1 << 30, element: $0)
    }
    for first in stride(from: 0, to: ids.count, by: window) {
      let part = Array(ids[first..<min(first + window, ids.count)])
      var tables = [BlockTable(), BlockTable()]
      for i in 0...1 { _ = caches[i].extend(&tables[i], to: part.count) }
      for start in stride(from: 0, to: part.count, by: 64) {
        let chunk = Array(part[start..<min(start + 64, part.count)])
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

  func printJSON() {
    JSONValue.object(
      JSONObject(keepingFirst: [
        ("compute", .string(mode.rawValue)), ("kernels", .string(instructionSet.rawValue)),
        ("kv_type", .string(element.rawValue)), ("tokens", .integer(tokens)), ("divergence", .number(divergence)),
        ("agreement", .number(agreement)),
      ])
    ).printed()
  }

  func printText() {
    print(
      "\(mode.rawValue) with \(instructionSet.rawValue), keys and values in \(element.rawValue), against f32 over \(tokens) tokens: "
        + "divergence \(String(format: "%.2e", divergence)) per token, most probable token agrees in \(String(format: "%.2f", agreement * 100)) %"
    )
  }
}
