import Formats
import Kernels
import Model
import TestSupport

/// Runs sequences through a transformer in whatever pieces and company a test wants.
final class ForwardRunner {
  let transformer: Transformer
  let cache: KeyValueCache

  init(
    _ base: Base, mode: ComputeMode = .f32, kernels: KernelSet = .best, threads: Int = 1,
    element: KeyValueLayout.Element? = nil, context: Int? = nil
  ) throws {
    let compute = Compute(kernels: kernels, pool: ThreadPool(threads: threads), mode: mode)
    transformer = Transformer(base: base, compute: compute, contextLength: context)
    cache = try KeyValueCache(config: base.config, bytes: 4 << 20, element: element ?? mode.keyValueElement)
  }

  typealias Sequence = (tokens: [Int32], adapters: AdapterSet)

  /// Logits of every position of every sequence.
  /// - Parameter chunk: how many tokens sequence `index` gives to the next pass, of those left; 0 lets it wait
  func logits(
    _ sequences: [Sequence], order: ([Int]) -> [Int] = { $0 }, chunk: (_ index: Int, _ left: Int) -> Int = { $1 }
  ) -> [[[Float]]] {
    var tables = sequences.map { _ in BlockTable() }
    var done = sequences.map { _ in 0 }
    var results: [[[Float]]] = sequences.map { _ in [] }
    let vocabulary = transformer.base.config.vocabularySize
    while zip(sequences, done).contains(where: { $0.tokens.count > $1 }) {
      var segments: [ForwardBatch.Segment] = []
      var owners: [(index: Int, count: Int)] = []
      for index in order(Array(sequences.indices)) {
        let left = sequences[index].tokens.count - done[index]
        let count = left == 0 ? 0 : min(chunk(index, left), left)
        guard count > 0 else { continue }
        precondition(cache.extend(&tables[index], to: done[index] + count))
        segments.append(
          .init(
            tokens: Array(sequences[index].tokens[done[index]..<done[index] + count]), position: done[index],
            table: tables[index], adapters: sequences[index].adapters, logits: 0..<count))
        owners.append((index, count))
        done[index] += count
      }
      transformer.forward(ForwardBatch(segments: segments), cache: cache) { logits, ld in
        var row = 0
        for (index, count) in owners {
          for _ in 0..<count {
            results[index].append(Array(UnsafeBufferPointer(start: logits + row * ld, count: vocabulary)))
            row += 1
          }
        }
      }
    }
    for index in tables.indices { cache.release(&tables[index]) }
    return results
  }
}

func bits(_ logits: [[Float]]) -> [[UInt32]] { logits.map { $0.map(\.bitPattern) } }
