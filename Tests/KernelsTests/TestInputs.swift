import Foundation
import Kernels
import TestSupport

extension TinyRandom {
  mutating func floats(_ count: Int, scale: Float = 1) -> [Float] {
    (0..<count).map { _ in Float.random(in: -scale...scale, using: &self) }
  }
}

/// For comparisons in which -0 differs from 0 and NaN equals itself.
func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

/// One sequence's queries, keys and values, and their attention by the kernels and by definition.
struct AttentionInputs {
  let layout: KeyValueLayout
  let positions: Int
  let queries, keys, values, cosine, sine: [Float]
  let rule: AttentionRule

  init(_ layout: KeyValueLayout, positions: Int, seed: UInt64, rule: AttentionRule? = nil) {
    self.layout = layout
    self.rule = rule ?? AttentionRule(headSize: layout.headSize)
    self.positions = positions
    var random = TinyRandom(seed: seed)
    queries = random.floats(positions * layout.headCount * layout.headSize, scale: 3)
    keys = random.floats(positions * layout.keyValueHeadCount * layout.headSize)
    values = random.floats(positions * layout.keyValueHeadCount * layout.headSize)
    let angles = (0..<positions * layout.headSize / 2).map { _ in Float.random(in: 0...6, using: &random) }
    cosine = angles.map { cos($0) }
    sine = angles.map { sin($0) }
  }

  private var querySize: Int { layout.headCount * layout.headSize }
  private var keyValueSize: Int { layout.keyValueHeadCount * layout.headSize }

  /// [positions][headCount · headSize], computed in chunks of rows, on layer 1.
  func run(_ compute: Compute, chunks: [Int]) -> [Float] {
    let blockCount = (positions + keyValueBlockLength - 1) / keyValueBlockLength
    let blocks = (0..<blockCount).map { _ in AlignedBuffer<UInt8>(count: layout.bytesPerBlock) }
    let pointers = ContiguousArray(blocks.map { UnsafeMutableRawPointer($0.pointer) })
    let ld = querySize + 2 * keyValueSize
    var result: [Float] = []
    var first = 0
    pointers.withUnsafeBufferPointer { pointers in
      for count in chunks {
        var joined: [Float] = []
        for row in first..<first + count {
          joined += queries[row * querySize..<(row + 1) * querySize]
          joined += keys[row * keyValueSize..<(row + 1) * keyValueSize]
          joined += values[row * keyValueSize..<(row + 1) * keyValueSize]
        }
        var out = [Float](repeating: .nan, count: count * querySize)
        let rows = (first..<first + count).map { AttentionRow(blocks: pointers.baseAddress!, position: $0) }
        joined.withUnsafeMutableBufferPointer { buffer in
          let start = buffer.baseAddress!
          compute.attention(
            layout, rule: rule, layer: 1, rows: rows, rowsShareSequences: count > 1, queries: start,
            keys: start + querySize,
            values: start + querySize + keyValueSize, ld: ld, cosine: cosine, sine: sine, out: &out)
        }
        result += out
        first += count
      }
    }
    withExtendedLifetime(blocks) {}
    return result
  }

  /// A row of keys or values as the cache stores it. Where f32 rounds the other way than f64, one element is a step off.
  private func stored(_ row: [Double]) -> [Double] {
    guard layout.element == .int8, let highest = row.map(abs).max(), highest > 0 else { return row }
    return row.map { ($0 / highest * 127).rounded(.toNearestOrEven) * highest / 127 }
  }

  /// Against softmax(q·k/√d)·v in double precision, by the rule's scale, cap and window.
  func largestError(of result: [Float]) -> Double {
    let size = layout.headSize
    func rotated(_ source: [Float], _ start: Int, _ position: Int) -> [Double] {
      (0..<size).map { i in
        let j = i % (size / 2)
        let (c, s) = (Double(cosine[position * size / 2 + j]), Double(sine[position * size / 2 + j]))
        let (a, b) = (Double(source[start + j]), Double(source[start + j + size / 2]))
        return i < size / 2 ? a * c - b * s : b * c + a * s
      }
    }
    var worst = 0.0
    for head in 0..<layout.headCount {
      let shared = head / (layout.headCount / layout.keyValueHeadCount)
      let first = { position in position * keyValueSize + shared * size }
      let rotatedKeys = (0..<positions).map { stored(rotated(keys, first($0), $0)) }
      let storedValues = (0..<positions).map { stored(values[first($0)..<first($0) + size].map(Double.init)) }
      for row in 0..<positions {
        let query = rotated(queries, row * querySize + head * size, row)
        let visible = max(row + 1 - (rule.window ?? positions), 0)...row
        let scores = visible.map { t in
          let score = zip(query, rotatedKeys[t]).reduce(0) { $0 + $1.0 * $1.1 } * Double(rule.scale)
          return rule.softCap.map { Double($0) * tanh(score / Double($0)) } ?? score
        }
        let highest = scores.max()!
        let weights = scores.map { exp($0 - highest) }
        let sum = weights.reduce(0, +)
        for i in 0..<size {
          let expected = visible.reduce(0.0) {
            $0 + weights[$1 - visible.lowerBound] / sum * storedValues[$1][i]
          }
          worst = max(worst, abs(expected - Double(result[row * querySize + head * size + i])))
        }
      }
    }
    return worst
  }
}
