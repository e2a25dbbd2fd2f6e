import Foundation
import TestSupport
import Testing

@testable import Kernels

@Suite struct LowRankApproximationTests {
  /// The error of the approximation is the smallest that there is: the sum of the squares of the other singular values, which
  /// are the eigenvalues of M·Mᵀ, computed by another way.
  @Test(arguments: [[24, 40, 4], [40, 24, 4], [33, 7, 7], [5, 64, 9], [1, 8, 1], [150, 90, 16]])
  func isTheNearest(_ sizes: [Int]) {
    let (rows, columns, rank) = (sizes[0], sizes[1], sizes[2])
    var random = TinyRandom(seed: UInt64(rows))
    var matrix = random.values(rows * columns, scale: 1)
    // A falling spectrum, as differences of weights have.
    for row in 0..<rows { for column in 0..<columns { matrix[row * columns + column] /= Float(1 + row % 12) } }
    let found = LowRankApproximation(matrix, rows: rows, columns: columns, rank: rank)
    #expect(found.a.count == rank * columns && found.b.count == rows * rank)
    var gram = [Double](repeating: 0, count: rows * rows)
    for i in 0..<rows {
      for j in 0..<rows {
        for k in 0..<columns { gram[i * rows + j] += Double(matrix[i * columns + k]) * Double(matrix[j * columns + k]) }
      }
    }
    let values = SymmetricEigen.decompose(gram, size: rows).values
    let total = matrix.reduce(0.0) { $0 + Double($1) * Double($1) }
    #expect(abs(values.reduce(0, +) - total) < 1e-9 * total)
    let best = values.prefix(rank).reduce(0, +) / total
    var squares = 0.0
    for i in matrix.indices {
      var sum = 0.0
      for k in 0..<rank { sum += Double(found.b[i / columns * rank + k]) * Double(found.a[k * columns + i % columns]) }
      squares += (Double(matrix[i]) - sum) * (Double(matrix[i]) - sum)
    }
    #expect(abs(1 - squares / total - found.kept) < 1e-5)
    #expect(found.kept <= best + 1e-5 && found.kept >= best - 1e-3)
  }

  @Test func matricesWithLessThanTheRank() {
    let zeros = LowRankApproximation([Float](repeating: 0, count: 12), rows: 3, columns: 4, rank: 2)
    #expect(zeros.kept == 1 && zeros.a == [Float](repeating: 0, count: 8) && zeros.b.allSatisfy { $0 == 0 })
    let outer = (0..<12).map { (index: Int) -> Float in
      let (row, column) = (index / 4, index % 4)
      return Float(1 + row) * Float(2 + column)
    }
    let one = LowRankApproximation(outer, rows: 3, columns: 4, rank: 3)
    #expect(abs(one.kept - 1) < 1e-6 && one.a[4...].allSatisfy { abs($0) < 1e-3 })
    #expect((one.a + one.b).allSatisfy { (value: Float) in value.isFinite })
  }

  @Test func eigenvaluesOfAKnownMatrix() {
    // [[2, 1], [1, 2]]
    let found = SymmetricEigen.decompose([2, 1, 1, 2], size: 2)
    #expect(abs(found.values[0] - 3) < 1e-12 && abs(found.values[1] - 1) < 1e-12)
    #expect(abs(abs(found.vectors[0]) - 0.5.squareRoot()) < 1e-12)
    #expect(SymmetricEigen.decompose([4], size: 1).values == [4])
  }
}
