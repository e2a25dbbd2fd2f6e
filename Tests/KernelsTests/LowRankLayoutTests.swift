import TestSupport
import Testing

@testable import Kernels

/// Compares packed factors with the layout that graft_layouts.h describes, element by element.
@Suite struct LowRankLayoutTests {
  /// What `put` writes into `count` zero bytes.
  private func bytes(_ count: Int, _ put: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
    let memory = AlignedBuffer<UInt8>(count: count + 64)
    put(memory.pointer)
    #expect(memory.buffer[count...].allSatisfy { $0 == 0 }, "nothing is written past the end")
    return Array(memory.buffer[..<count])
  }

  /// A group of rows side by side, [column][lane] or [column pair][lane][2], appended value by value.
  private func append(
    _ rows: [[Float]], lanes: Int, columns: Int, _ element: LowRankFactors.Element, to bytes: inout [UInt8]
  ) {
    func value(_ lane: Int, _ column: Int) -> Float {
      lane < rows.count && column < columns ? rows[lane][column] : 0
    }
    switch element {
    case .f32:
      for column in 0..<columns {
        for lane in 0..<lanes { withUnsafeBytes(of: value(lane, column)) { bytes += $0 } }
      }
    case .bf16:
      for pair in stride(from: 0, to: columns, by: 2) {
        for lane in 0..<lanes {
          for column in [pair, pair + 1] {
            withUnsafeBytes(of: LowRankFactors.bf16(value(lane, column))) { bytes += $0 }
          }
        }
      }
    }
  }

  private func rows(_ values: [Float], _ range: Range<Int>, columns: Int) -> [[Float]] {
    range.map { Array(values[$0 * columns..<($0 + 1) * columns]) }
  }

  @Test(arguments: [LowRankFactors.Element.f32, .bf16], [(48, 40), (7, 16), (33, 1), (1, 47)])
  func everyElementIsWhereTheKernelsReadIt(element: LowRankFactors.Element, shape: (columns: Int, outputs: Int)) {
    var random = TinyRandom(seed: 6)
    for rank in 1...70 {
      let (columns, outputs) = shape
      let layout = LowRankLayout(rank: rank, columns: columns, outputs: outputs, element: element)
      let (a, b) = (random.floats(rank * columns), random.floats(outputs * rank))
      var wantedA: [UInt8] = []
      for first in stride(from: 0, to: rank, by: 16) {
        let width = min(16, rank - first)
        append(rows(a, first..<first + width, columns: columns), lanes: width, columns: columns, element, to: &wantedA)
      }
      wantedA += [UInt8](repeating: 0, count: 64)
      #expect(bytes(layout.aBytes) { layout.packA(a, into: $0) } == wantedA, "rank \(rank)")
      var wantedB: [UInt8] = []
      for first in stride(from: 0, to: outputs, by: 16) {
        append(
          rows(b, first..<min(first + 16, outputs), columns: rank), lanes: 16, columns: rank, element, to: &wantedB)
      }
      #expect(bytes(layout.bBytes) { layout.packB(b, into: $0) } == wantedB, "rank \(rank)")
      let factors = random.floats(outputs)
      let padding = [Float](repeating: 0, count: layout.rowFactorBytes / 8 - outputs)
      let wanted = factors + padding + factors.map { $0 - 1 } + padding
      #expect(
        bytes(layout.rowFactorBytes) { layout.packRowFactors(factors, into: $0) } == wanted.withUnsafeBytes(Array.init))
    }
  }
}
