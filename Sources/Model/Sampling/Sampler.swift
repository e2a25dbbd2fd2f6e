public import Kernels

/// Draws a generation's tokens. A draw depends on the logits, the parameters, the tokens before it and its index alone,
/// so it is the same whatever else is computed beside it.
public struct Sampler: Sendable {
  private let parameters: SamplingParameters
  private var adjustments: LogitAdjustments

  /// - Parameter prompt: what the repetition penalty counts beside the answer
  public init(_ parameters: SamplingParameters, prompt: [Int32] = []) {
    self.parameters = parameters
    adjustments = LogitAdjustments(parameters, prompt: prompt)
  }

  /// The next token.
  /// - Parameters:
  ///   - index: of the token among those generated, from 0
  ///   - workspace: made for at least as long a row
  public mutating func draw(
    _ row: LogitRow, index: Int, compute: Compute, workspace: SamplingWorkspace
  ) -> Int32 {
    guard let values = row.values.baseAddress, row.values.count <= workspace.logits.count else { return row.argmax }
    let count = row.values.count
    var logits = values
    if !adjustments.isEmpty {
      let copy = workspace.logits.pointer
      copy.update(from: values, count: count)
      adjustments.apply(to: copy, count: count)
      logits = UnsafePointer(copy)
    }
    let token = choose(logits, count, index, compute, workspace)
    adjustments.accept(token)
    return token
  }

  private func choose(
    _ logits: UnsafePointer<Float>, _ count: Int, _ index: Int, _ compute: Compute, _ workspace: SamplingWorkspace
  ) -> Int32 {
    let best = VectorScan.argmax(logits, count: count)
    let factor = 1 / parameters.temperature
    // Below about 3e-39 the factor is infinite, and the limit is greedy.
    guard parameters.temperature > 0, factor.isFinite else { return Int32(best) }
    let weights = workspace.weights.pointer
    let total = compute.expSum(logits, count: count, highest: logits[best], factor: factor, into: weights)
    var random = CounterRandom(seed: parameters.seed, counter: UInt64(index))
    let share = random.unit()
    let token =
      cutsTail(count)
      ? drawFromCandidates(weights, count, total, share, workspace.ids.pointer)
      : Self.draw(weights, count, share * total)
    return token ?? Int32(best)
  }

  private func cutsTail(_ count: Int) -> Bool {
    parameters.topP < 1 || parameters.minP > 0 || (1..<count).contains(parameters.topK)
  }

  private func drawFromCandidates(
    _ weights: UnsafePointer<Float>, _ count: Int, _ total: Double, _ share: Double, _ ids: UnsafeMutablePointer<Int32>
  ) -> Int32? {
    var candidates = Candidates(weights: weights, count: count, ids: ids)
    var mass = total
    // The greatest weight is 1, so min-p is a weight.
    if (1..<count).contains(parameters.topK) {
      candidates.gather(most: parameters.topK, atLeast: parameters.minP)
      mass = candidates.mass
    } else if parameters.minP > 0 {
      candidates.gather(atLeast: parameters.minP)
      mass = candidates.mass
    } else {
      // All tokens below this weight together weigh less than what the nucleus may leave out.
      candidates.gather(atLeast: Float((1 - Double(parameters.topP)) * total / Double(count)))
    }
    if parameters.topP < 1 { candidates.keepNucleus(mass: Double(parameters.topP) * mass) }
    return candidates.token(at: share)
  }

  /// The token at which the sum of weights passes `left`.
  private static func draw(_ weights: UnsafePointer<Float>, _ count: Int, _ left: Double) -> Int32? {
    var left = left
    for start in stride(from: 0, to: count, by: 1024) {
      let end = min(start + 1024, count)
      let sum = VectorScan.sum(weights + start, count: end - start)
      if left >= sum {
        left -= sum
        continue
      }
      for i in start..<end {
        left -= Double(weights[i])
        if left < 0 { return Int32(i) }
      }
      // Rounding: the sum was a trifle more than its parts.
      left = 0
    }
    return nil
  }
}
