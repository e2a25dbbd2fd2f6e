#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Direct preference optimisation (Rafailov et al., 2023): −log σ(β · (r(chosen) − r(rejected))), where r is an
/// answer's log-probability with the adapter, less that of the base alone.
struct PreferenceLoss: TrainingLoss {
  /// β, by which the difference of the log-ratios is multiplied.
  let beta: Double
  private(set) var references: References

  /// - Parameter examples: pairs of training and validation together
  init(beta: Double, examples: Int) {
    self.beta = beta
    references = References(count: examples)
  }

  init(beta: Double, references: References) {
    self.beta = beta
    self.references = references
  }

  func divisor(
    of positions: Range<Int>, _ data: TrainingData, _ order: EpochOrder, _ slices: any TrainingSlices
  ) -> Int { positions.count }

  /// Computes the base's log-likelihoods of the microbatch's rows, unless they are known.
  mutating func prepare(
    _ microbatch: Microbatch, _ model: TrainingModel, _ slices: any TrainingSlices
  ) throws(TrainingInterruption) {
    guard !microbatch.examples.allSatisfy(references.knows) else { return }
    let pass = TrainingPass(model, microbatch, .reference, slices)
    try pass.forward()
    let rows = try pass.head().rows
    for row in stride(from: 0, to: rows.count, by: 2) {
      references[microbatch.examples[row]] = (rows[row], rows[row + 1])
    }
  }

  func score(_ pass: TrainingPass) throws(TrainingInterruption) -> LossSum {
    preferences(pass.microbatch.examples, try pass.head().rows).losses
  }

  func gradient(_ pass: TrainingPass, divisor: Int) throws(TrainingInterruption) -> LossSum {
    let found = preferences(pass.microbatch.examples, try pass.head().rows)
    _ = try pass.head(weights: found.weights.map { Float($0 / Double(divisor)) })
    return found.losses
  }

  /// The losses of pairs, and the gradient of the sum by each row's −log-likelihood.
  /// - Parameters:
  ///   - examples: each row's; a pair's two rows lie side by side, the chosen one first
  ///   - rows: each row's −log-likelihood
  func preferences(_ examples: [Int], _ rows: [Double]) -> (losses: LossSum, weights: [Double]) {
    var losses = LossSum(count: rows.count / 2)
    var weights = [Double](repeating: 0, count: rows.count)
    for row in stride(from: 0, to: rows.count, by: 2) {
      let base = references[examples[row]]
      let margin = beta * ((base.chosen - rows[row]) - (base.rejected - rows[row + 1]))
      // log(1 + e^−x) without overflow.
      losses.sum += max(-margin, 0) + log1p(exp(-abs(margin)))
      losses.correct += margin > 0 ? 1 : 0
      let slope = beta / (1 + exp(margin))
      weights[row] = slope
      weights[row + 1] = -slope
    }
    return (losses, weights)
  }
}

/// The −log-likelihoods of each pair's two answers under the base alone, filled in when they are first computed.
struct References {
  private var values: [Double]

  /// - Parameter count: pairs
  init(count: Int) { values = Array(repeating: .nan, count: 2 * count) }

  static func bytes(count: Int) -> Int { 2 * count * MemoryLayout<Double>.size }

  func knows(_ pair: Int) -> Bool { !values[2 * pair].isNaN }

  /// - Parameter pair: the example's index of `TrainingData`
  subscript(pair: Int) -> (chosen: Double, rejected: Double) {
    get { (values[2 * pair], values[2 * pair + 1]) }
    set { (values[2 * pair], values[2 * pair + 1]) = (newValue.chosen, newValue.rejected) }
  }
}
