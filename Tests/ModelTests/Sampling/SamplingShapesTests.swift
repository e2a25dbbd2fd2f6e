import Foundation
import Kernels
import Model
import TestSupport
import Testing

/// Truncation, bias and penalties against the distribution that their definitions give, in double precision.
@Suite struct SamplingShapesTests {
  private let compute = Compute(pool: ThreadPool(threads: 1))

  /// The exact distribution: bias, penalties, temperature, min-p, top-k, top-p, by sorting.
  private func expected(_ row: [Float], _ parameters: SamplingParameters, prompt: [Int32], answer: [Int32]) -> [Double]
  {
    var logits = row.map(Double.init)
    for (token, bias) in parameters.logitBias { logits[Int(token)] += Double(bias) }
    if parameters.repetitionPenalty != 1 {
      let all = prompt + answer
      for token in Set(all.suffix(parameters.repetitionWindow ?? all.count)) {
        let penalty = Double(parameters.repetitionPenalty)
        let logit = logits[Int(token)]
        logits[Int(token)] = logit > 0 ? logit / penalty : logit * penalty
      }
    }
    for token in Set(answer) {
      let count = answer.count { $0 == token }
      logits[Int(token)] -= Double(parameters.frequencyPenalty) * Double(count) + Double(parameters.presencePenalty)
    }
    let highest = logits.max() ?? 0
    var weights = logits.map { exp(($0 - highest) / Double(parameters.temperature)) }
    for i in weights.indices where weights[i] < Double(parameters.minP) { weights[i] = 0 }
    let order = weights.indices.sorted { (weights[$1], $0) < (weights[$0], $1) }
    if parameters.topK > 0 {
      for i in order.dropFirst(parameters.topK) { weights[i] = 0 }
    }
    let total = weights.reduce(0, +)
    var mass = 0.0
    for i in order {
      if i != order[0], parameters.topP < 1, mass >= Double(parameters.topP) * total { weights[i] = 0 }
      mass += weights[i]
    }
    let kept = weights.reduce(0, +)
    return weights.map { $0 / kept }
  }

  /// Draws many times and holds the counts against probabilities by Pearson's χ², rare tokens taken together.
  private func check(
    _ row: [Float], _ parameters: SamplingParameters, prompt: [Int32] = [], answer: [Int32] = [], count: Int = 20_000
  ) {
    let probabilities = expected(row, parameters, prompt: prompt, answer: answer)
    var counts = [Int](repeating: 0, count: row.count)
    let workspace = SamplingWorkspace(vocabularySize: row.count)
    row.withUnsafeBufferPointer { buffer in
      let logits = LogitRow(buffer, compute: compute)
      var sampler = Sampler(parameters, prompt: prompt)
      for token in answer { sampler.accept(token) }
      for index in 0..<count {
        counts[Int(sampler.draw(logits, index: index, compute: compute, workspace: workspace))] += 1
      }
    }
    var (statistic, cells) = (0.0, 0.0)
    var rare = (seen: 0.0, expected: 0.0)
    for (seen, probability) in zip(counts, probabilities) {
      if probability == 0 { #expect(seen == 0, "\(parameters)") }
      let expected = probability * Double(count)
      if expected < 5 {
        rare = (rare.seen + Double(seen), rare.expected + expected)
      } else {
        statistic += (Double(seen) - expected) * (Double(seen) - expected) / expected
        cells += 1
      }
    }
    if rare.expected >= 1 {
      statistic += (rare.seen - rare.expected) * (rare.seen - rare.expected) / rare.expected
      cells += 1
    }
    // The mean of χ² is its degrees of freedom f, its deviation √2f: six of them never happen by chance.
    let freedom = max(cells - 1, 0)
    #expect(statistic < freedom + 6 * (2 * freedom).squareRoot() + 4, "\(parameters)")
  }

  private let small: [Float] = [1.5, -0.5, 2, 0.25, 2, -3, 1, 0, 0.75, -1]

  private func large(_ size: Int, seed: UInt64, scale: Float = 2) -> [Float] {
    var random = TinyRandom(seed: seed)
    return random.values(size, scale: scale)
  }

  @Test(arguments: [1, 2, 5, 9, 10, 500]) func topK(k: Int) {
    check(small, .init(topK: k, seed: 1))
    check(large(3000, seed: 2), .init(topK: k, seed: 2))
  }

  @Test(arguments: [Float(0.01), 0.2, 0.7, 1]) func minP(share: Float) {
    check(small, .init(minP: share, seed: 3))
    check(large(3000, seed: 4), .init(temperature: 1.3, minP: share, seed: 4))
  }

  @Test(arguments: [Float(0), 0.05, 0.5, 0.9, 0.99, 0.9999]) func topP(share: Float) {
    check(small, .init(topP: share, seed: 5))
    check(large(3000, seed: 6), .init(topP: share, seed: 6))
    // Half of the weights are equal, so that ids decide.
    check(large(1000, seed: 7).map { $0 > 0 ? 1 : $0 }, .init(topP: share, seed: 7))
  }

  @Test func allTogether() {
    for (seed, size) in [40, 300, 5000].enumerated() {
      let seed = UInt64(seed)
      for temperature in [Float(0.3), 1, 1.9] {
        check(
          large(size, seed: seed),
          .init(temperature: temperature, topP: 0.8, topK: 30, minP: 0.02, seed: seed))
        check(large(size, seed: seed), .init(temperature: temperature, topP: 0.95, minP: 0.001, seed: seed))
        check(large(size, seed: seed), .init(temperature: temperature, topP: 0.6, topK: size - 1, seed: seed))
      }
    }
  }

  @Test func biasAndPenalties() {
    let prompt: [Int32] = [0, 1, 1, 5]
    let answer: [Int32] = [2, 2, 2, 4, 5]
    check(small, .init(logitBias: [1: 3, 2: -100, 9: 0.5], seed: 1), prompt: prompt, answer: answer)
    check(small, .init(repetitionPenalty: 1.7, seed: 2), prompt: prompt, answer: answer)
    check(small, .init(presencePenalty: 1.1, seed: 3), prompt: prompt, answer: answer)
    check(small, .init(frequencyPenalty: 0.6, seed: 4), prompt: prompt, answer: answer)
    check(small, .init(presencePenalty: -0.8, frequencyPenalty: -0.3, seed: 5), prompt: prompt, answer: answer)
    check(
      small,
      .init(
        temperature: 0.8, topP: 0.9, topK: 7, minP: 0.03, repetitionPenalty: 1.3, presencePenalty: 0.4,
        frequencyPenalty: 0.2, logitBias: [7: 2], seed: 6), prompt: prompt, answer: answer)
  }

  /// The repetition penalty of the last tokens only, whether they are the prompt's or the answer's.
  @Test(arguments: [0, 1, 2, 3, 5, 7, 8, 9, 100]) func repetitionWindow(window: Int) {
    var parameters = SamplingParameters(repetitionPenalty: 1.7, presencePenalty: 0.3, seed: 11)
    parameters.repetitionWindow = window
    check(small, parameters, prompt: [0, 1, 1, 5, 8], answer: [2, 2, 4, 5], count: 4000)
    check(small, parameters, prompt: [0, 1, 1, 5, 8, 1], count: 4000)
  }

  /// Draws follow the distribution without the tokens that would end the answer too early or complete a bad word.
  @Test(arguments: [Float(0), 0.7, 1]) func excludedTokens(temperature: Float) {
    var random = TinyRandom(seed: 5)
    var excluded = 0
    for round in 0..<60 {
      let row = random.values(9, scale: 2)
      var parameters = SamplingParameters(temperature: temperature, seed: UInt64(round))
      parameters.minimumTokens = round % 4
      parameters.endTokens = [3, 7]
      parameters.badWords = (0..<4).map { _ in
        (0..<Int.random(in: 1...3, using: &random)).map { _ in Int32.random(in: 0..<9, using: &random) }
      }
      var sampler = Sampler(parameters)
      var answer: [Int32] = []
      let workspace = SamplingWorkspace(vocabularySize: row.count)
      row.withUnsafeBufferPointer { buffer in
        for index in 0..<40 {
          let token = sampler.draw(
            LogitRow(buffer, compute: compute), index: index, compute: compute, workspace: workspace)
          sampler.accept(token)
          answer.append(token)
          // By the definition, on the whole answer.
          var without = index < parameters.minimumTokens ? parameters.endTokens : []
          for word in parameters.badWords where Array(answer.dropLast().suffix(word.count - 1)) == word.dropLast() {
            word.last.map { _ = without.insert($0) }
          }
          #expect(!without.contains(token), "token \(token) of \(answer), round \(round)")
          excluded += without.count
          guard temperature == 0 else { continue }
          let left = row.indices.filter { !without.contains(Int32($0)) }
          #expect(Int(token) == left.max { (row[$0], $1) < (row[$1], $0) })
        }
      }
    }
    #expect(excluded > 1000)
  }

  /// The tokens of a grammar count, whatever else is excluded, because nothing could be drawn without them.
  @Test func aMaskIsNeverEmptied() {
    var parameters = SamplingParameters(seed: 3)
    parameters.minimumTokens = 5
    parameters.endTokens = [4]
    parameters.badWords = [[4], [1]]
    let workspace = SamplingWorkspace(vocabularySize: 6)
    let row: [Float] = [9, 2, 3, 9, 1, 9]
    func draw(_ allowed: [Int32]) -> Int32 {
      var mask = TokenMask(count: 6)
      for token in allowed { mask.insert(token) }
      return row.withUnsafeBufferPointer {
        Sampler(parameters).draw(
          LogitRow($0, compute: compute), index: 0, mask: mask, compute: compute, workspace: workspace)
      }
    }
    #expect(draw([4]) == 4 && [1, 4].contains(draw([1, 4])) && draw([1, 2, 4]) == 2)
  }

  /// The prompt counts for the repetition penalty alone.
  @Test func greedyFollowsBiasAndPenalties() {
    func greedy(_ parameters: SamplingParameters, prompt: [Int32] = [], draws: Int = 1) -> [Int32] {
      var sampler = Sampler(parameters, prompt: prompt)
      let workspace = SamplingWorkspace(vocabularySize: small.count)
      return small.withUnsafeBufferPointer { buffer in
        (0..<draws).map {
          let token = sampler.draw(
            LogitRow(buffer, compute: compute), index: $0, compute: compute, workspace: workspace)
          sampler.accept(token)
          return token
        }
      }
    }
    #expect(greedy(.init(temperature: 0, seed: 0), draws: 3) == [2, 2, 2])
    #expect(greedy(.init(temperature: 0, logitBias: [5: 10], seed: 0)) == [5])
    #expect(greedy(.init(temperature: 0, logitBias: [2: -100, 4: -100, 300: 100, -1: 100], seed: 0)) == [0])
    #expect(greedy(.init(temperature: 0, presencePenalty: 0.6, seed: 0), draws: 4) == [2, 4, 0, 2])
    #expect(greedy(.init(temperature: 0, frequencyPenalty: 0.3, seed: 0), draws: 5) == [2, 4, 2, 4, 0])
    #expect(greedy(.init(temperature: 0, presencePenalty: 2, seed: 0), prompt: [2, 4]) == [2])
    #expect(greedy(.init(temperature: 0, repetitionPenalty: 1.5, seed: 0), prompt: [2, 4]) == [0])
  }

  /// What a client may send at the ends of the ranges ends in a token of the vocabulary.
  @Test func extremesEnd() {
    var random = TinyRandom(seed: 9)
    let workspace = SamplingWorkspace(vocabularySize: 600)
    for round in 0..<400 {
      var row = random.values(600, scale: round % 7 == 0 ? 1e30 : 8)
      if round % 5 == 0 { row[round % 600] = [.nan, .infinity, -.infinity][round % 3] }
      if round % 11 == 0 { row = [Float](repeating: round % 2 == 0 ? -.infinity : 0, count: 600) }
      var parameters = SamplingParameters(seed: UInt64(round))
      parameters.temperature = [0, 1e-30, 0.1, 1, 2].randomElement(using: &random) ?? 1
      parameters.topP = [0, 1e-30, 0.3, 0.999_999_9, 1].randomElement(using: &random) ?? 1
      parameters.topK = [0, 1, 2, 599, 600, .max].randomElement(using: &random) ?? 0
      parameters.minP = [0, 1e-30, 0.5, 1].randomElement(using: &random) ?? 0
      parameters.repetitionPenalty = [0.01, 1, 10].randomElement(using: &random) ?? 1
      parameters.frequencyPenalty = [-2, 0, 2].randomElement(using: &random) ?? 0
      var sampler = Sampler(parameters, prompt: [0, 599, 7])
      row.withUnsafeBufferPointer { buffer in
        for index in 0..<3 {
          let token = sampler.draw(
            LogitRow(buffer, compute: compute), index: index, compute: compute, workspace: workspace)
          #expect((0..<600).contains(token))
          sampler.accept(token)
        }
      }
    }
  }

  /// Weights arranged against quickselect end all the same.
  @Test func anyOrderIsSelectedFrom() {
    let count = 20_000
    let rising = (0..<count).map { Float($0) / Float(count) }
    let organ = (0..<count).map { Float(min($0, count - $0)) / Float(count) }
    for row in [rising, rising.reversed(), organ, organ.map { -$0 }, [Float](repeating: 1, count: count)] {
      check(row, .init(temperature: 0.05, topP: 0.7, seed: 1), count: 200)
      check(row, .init(topK: 3, seed: 2), count: 2000)
    }
  }
}
