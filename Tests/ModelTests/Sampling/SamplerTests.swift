import Foundation
import Kernels
import Model
import TestSupport
import Testing

@Suite struct SamplerTests {
  private let compute = Compute(pool: ThreadPool(threads: 1))

  private func draw(_ logits: [Float], _ parameters: SamplingParameters, index: Int = 0) -> Int32 {
    logits.withUnsafeBufferPointer {
      Sampler(parameters).draw(
        LogitRow($0, compute: compute), index: index, compute: compute,
        workspace: SamplingWorkspace(vocabularySize: logits.count))
    }
  }

  private func softmax(_ logits: [Float], temperature: Double = 1) -> [Double] {
    let highest = Double(logits.max() ?? 0)
    let weights = logits.map { exp((Double($0) - highest) / temperature) }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }

  /// Draws many times and holds the counts against probabilities by Pearson's χ².
  private func expectDistribution(_ logits: [Float], _ probabilities: [Double], temperature: Float, topP: Float) {
    let count = 40_000
    var counts = [Int](repeating: 0, count: logits.count)
    for seed in 0..<UInt64(count) {
      counts[Int(draw(logits, .init(temperature: temperature, topP: topP, seed: seed), index: Int(seed % 5)))] += 1
    }
    var statistic = 0.0
    for (seen, probability) in zip(counts, probabilities) {
      if probability == 0 {
        #expect(seen == 0)
      } else {
        let expected = probability * Double(count)
        statistic += (Double(seen) - expected) * (Double(seen) - expected) / expected
      }
    }
    // The mean of χ² is its degrees of freedom f, its deviation √2f: six of them never happen by chance.
    let freedom = Double(probabilities.count { $0 > 0 } - 1)
    #expect(statistic < freedom + 6 * (2 * freedom).squareRoot() + 4, "temperature \(temperature), top_p \(topP)")
  }

  private let logits: [Float] = [1.5, -0.5, 2, 0.25, 2, -3, 1, 0, 0.75, -1]

  @Test func greedyTakesTheLowestOfEquals() {
    #expect(draw([0, 3, -1, 3, 3], .init(temperature: 0, seed: 1)) == 1)
    #expect(draw([5, 5], .init(temperature: 0, topP: 0.5, seed: 9)) == 0)
    #expect(draw(logits, .init(temperature: 1, topP: 0, seed: 3)) == 2)
    #expect(draw([-.infinity, -2, -2], .init(temperature: 0, seed: 3)) == 1)
  }

  @Test(arguments: [0.5, 1, 2]) func drawsFollowTheTemperature(temperature: Double) {
    expectDistribution(
      logits, softmax(logits, temperature: temperature), temperature: Float(temperature), topP: 1)
  }

  @Test(arguments: [0.3, 0.6, 0.9, 0.999]) func drawsStayInTheNucleus(topP: Double) {
    for temperature in [1, 1.5] {
      let probabilities = softmax(logits, temperature: temperature)
      let order = probabilities.indices.sorted { (probabilities[$1], $0) < (probabilities[$0], $1) }
      var kept = [Double](repeating: 0, count: logits.count)
      var mass = 0.0
      for token in order where mass < topP {
        kept[token] = probabilities[token]
        mass += probabilities[token]
      }
      expectDistribution(logits, kept.map { $0 / mass }, temperature: Float(temperature), topP: Float(topP))
    }
  }

  /// The nucleus reaches far below the most probable token.
  @Test func aLongTailIsInTheNucleus() {
    let tail = [Float](repeating: -9, count: 8000)
    let logits = [0] + tail
    let share = 1 / (1 + 8000 * exp(-9.0))
    let rest = (0..<2000).count { draw(logits, .init(topP: 0.99, seed: UInt64($0))) != 0 }
    let expected = 2000 * (1 - share / 0.99)
    #expect(abs(Double(rest) - expected) < 6 * (expected * share).squareRoot())
  }

  @Test func aDrawDependsOnSeedAndIndexAlone() {
    let many = (0..<200).map { draw(logits, .init(seed: 42), index: $0) }
    #expect(many == (0..<200).reversed().map { draw(logits, .init(seed: 42), index: $0) }.reversed())
    #expect(many != (0..<200).map { draw(logits, .init(seed: 43), index: $0) })
    #expect(many != (0..<200).map { draw(logits, .init(seed: 42), index: $0 + 1) })
    #expect(Set(many).count > 4)
  }

  @Test(arguments: [
    Float.leastNonzeroMagnitude, Float(sign: .plus, exponent: -130, significand: 1), 1e-37, 1e-10, 1e30,
  ])
  func extremeTemperaturesEnd(temperature: Float) {
    for topP in [Float(0), 1e-30, 0.5, 0.999_999_9, 1] {
      let token = draw(logits, .init(temperature: temperature, topP: topP, seed: 5))
      #expect(temperature > 1 ? logits.indices.contains(Int(token)) : token == 2 || token == 4)
    }
  }

  @Test func logitsThatAreNoNumbersEnd() {
    for bad in [Float.nan, .infinity, -.infinity] {
      for at in 0..<3 {
        var row: [Float] = [0.5, 1, -1]
        row[at] = bad
        for topP in [Float(0.5), 1] {
          #expect((0..<3).contains(draw(row, .init(topP: topP, seed: 1))))
        }
      }
    }
  }

  @Test func logprobsAreThoseOfADoublePrecisionSoftmax() {
    var random = TinyRandom(seed: 4)
    for size in [1, 2, 17, 1024, 5000] {
      let row = random.values(size, scale: 6)
      let expected = softmax(row).map { log($0) }
      row.withUnsafeBufferPointer { buffer in
        let logits = LogitRow(buffer, compute: compute)
        let sum = logits.logSumExp
        for token in row.indices {
          let value = logits.logprob(Int32(token), logSumExp: sum)
          #expect(abs(Double(value.logprob) - expected[token]) < 1e-5 && value.token == token)
        }
      }
    }
  }

  @Test func theMostProbableComeInOrder() {
    var random = TinyRandom(seed: 6)
    for round in 0..<200 {
      // Few values, so that many are equal.
      let row = (0..<50).map { _ in Float(Int.random(in: -4...4, using: &random)) }
      let expected = row.indices.sorted { (row[$1], $0) < (row[$0], $1) }.map(Int32.init)
      row.withUnsafeBufferPointer { buffer in
        let logits = LogitRow(buffer, compute: compute)
        let top = logits.top(round % 60, logSumExp: logits.logSumExp)
        #expect(top.map(\.token) == Array(expected.prefix(round % 60)))
        #expect(top.allSatisfy { $0 == logits.logprob($0.token, logSumExp: logits.logSumExp) })
        #expect(logits.argmax == expected[0])
      }
    }
  }
}
