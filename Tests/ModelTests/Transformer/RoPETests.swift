import Formats
import Foundation
import Kernels
import Testing

@testable import Model

/// Against the formulas of Su et al., 2021, and of the Llama 3.1 release, in double precision.
@Suite struct RoPETests {
  private func base(_ theta: Double, _ size: Int) -> [Double] {
    (0..<size / 2).map { pow(theta, -2 * Double($0) / Double(size)) }
  }

  private func expectClose(_ parameters: RoPEParameters, _ expected: [Double], size: Int) {
    let table = RoPETable(parameters, headSize: size, positions: 200)
    for position in [0, 1, 31, 199] {
      for (i, frequency) in expected.enumerated() {
        let angle = Double(position) * frequency
        let at = position * size / 2 + i
        #expect(abs(Double(table.cosine[at]) - cos(angle)) < 5e-5, "position \(position), pair \(i)")
        #expect(abs(Double(table.sine[at]) - sin(angle)) < 5e-5, "position \(position), pair \(i)")
      }
    }
    for (value, wanted) in zip(RoPETable.inverseFrequencies(parameters, headSize: size), expected) {
      #expect(abs(Double(value) - wanted) <= 4e-7 * wanted)
    }
  }

  @Test func plain() { expectClose(RoPEParameters(theta: 10_000), base(10_000, 64), size: 64) }

  @Test func linear() {
    expectClose(
      RoPEParameters(theta: 10_000, scaling: .linear(factor: 2.5)), base(10_000, 64).map { $0 / 2.5 }, size: 64)
  }

  @Test func divisors() {
    let divisors = (0..<32).map { Float($0) * 0.5 + 1 }
    expectClose(
      RoPEParameters(theta: 500_000, scaling: .divisors(divisors)),
      zip(base(500_000, 64), divisors).map { $0 / Double($1) }, size: 64)
  }

  @Test(arguments: [(8.0, 8192), (32.0, 8192), (8.0, 64)])
  func llama3(factor: Double, original: Int) {
    let (low, high) = (1.0, 4.0)
    var kinds: Set<Int> = []
    let expected = base(500_000, 128).map { frequency in
      let turns = Double(original) * frequency / (2 * Double.pi)
      if turns < low {
        kinds.insert(0)
        return frequency / factor
      }
      if turns > high {
        kinds.insert(1)
        return frequency
      }
      kinds.insert(2)
      let smooth = (turns - low) / (high - low)
      return (1 - smooth) * frequency / factor + smooth * frequency
    }
    #expect(kinds == [0, 1, 2])
    expectClose(
      RoPEParameters(
        theta: 500_000,
        scaling: .llama3(
          factor: Float(factor), lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: original)),
      expected, size: 128)
  }
}
