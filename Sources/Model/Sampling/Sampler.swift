public import Kernels

/// Draws a generation's tokens. A draw depends on the logits, the parameters, the tokens before it and its index alone, so
/// other sequences in the batch do not change it.
public struct Sampler: Sendable {
  private let parameters: SamplingParameters
  private var adjustments: LogitAdjustments
  private var excluded: ExcludedTokens

  /// - Parameter prompt: the repetition penalty applies to its tokens as to those of the answer
  public init(_ parameters: SamplingParameters, prompt: [Int32] = []) {
    self.parameters = parameters
    adjustments = LogitAdjustments(parameters, prompt: prompt)
    excluded = ExcludedTokens(parameters)
  }

  /// Draws the next token, on any thread. The caller gives the token to `accept` before the next draw.
  /// - Parameters:
  ///   - row: finite logits
  ///   - index: of the token among those generated, from 0
  ///   - mask: the tokens that may be drawn, at least one; `nil` for all. If the parameters exclude all of these, the mask
  ///     counts.
  ///   - workspace: for rows of at least this length; used by no other thread meanwhile
  public func draw(
    _ row: LogitRow, index: Int, mask: TokenMask? = nil, compute: Compute, workspace: SamplingWorkspace
  ) -> Int32 {
    guard let values = row.values.baseAddress, row.values.count <= workspace.logits.count else { return row.argmax }
    let count = row.values.count
    let without = excluded.tokens(at: index).filter { (0..<count).contains(Int($0)) }
    guard mask != nil || !adjustments.isEmpty || !without.isEmpty else {
      return choose(values, count, index, nil, [], compute, workspace)
    }
    let copy = workspace.logits.pointer
    copy.update(from: values, count: count)
    adjustments.apply(to: copy, count: count)
    mask?.apply(to: copy, count: count)
    guard !without.isEmpty else { return choose(copy, count, index, mask, [], compute, workspace) }
    let logits = without.map { copy[Int($0)] }
    for token in without { copy[Int(token)] = -.infinity }
    if copy[VectorScan.argmax(copy, count: count)] > -.infinity {
      return choose(copy, count, index, mask, without, compute, workspace)
    }
    // A token can be excluded twice, so the logits go back in the opposite order.
    for (token, logit) in zip(without, logits).reversed() { copy[Int(token)] = logit }
    return choose(copy, count, index, mask, [], compute, workspace)
  }

  /// Records a token of the answer, which the penalties of later draws count.
  public mutating func accept(_ token: Int32) {
    adjustments.accept(token)
    excluded.accept(token)
  }

  private func choose(
    _ logits: UnsafePointer<Float>, _ count: Int, _ index: Int, _ mask: TokenMask?, _ without: [Int32],
    _ compute: Compute, _ workspace: SamplingWorkspace
  ) -> Int32 {
    let best = VectorScan.argmax(logits, count: count)
    let factor = 1 / parameters.temperature
    // Below about 3e-39 the factor is infinite, and the limit is greedy.
    guard parameters.temperature > 0, factor.isFinite else { return Int32(best) }
    let weights = workspace.weights.pointer
    let total = compute.expSum(logits, count: count, maximum: logits[best], factor: factor, into: weights)
    var random = CounterRandom(seed: parameters.seed, counter: UInt64(index))
    let token = draw(weights, count, total, random.unit(), workspace.ids.pointer)
    // The weight of a token that is masked is almost, but not always quite, 0.
    guard let token, mask?.contains(token) ?? true, !without.contains(token) else { return Int32(best) }
    return token
  }

  /// - Parameters:
  ///   - weights: exp of the scaled logits; the greatest is 1, so min-p is a weight
  ///   - total: their sum
  ///   - uniform: the random number, in [0, 1)
  private func draw(
    _ weights: UnsafePointer<Float>, _ count: Int, _ total: Double, _ uniform: Double,
    _ ids: UnsafeMutablePointer<Int32>
  ) -> Int32? {
    let minP = parameters.minP
    var candidates = Candidates(weights: weights, count: count, ids: ids)
    if (1..<count).contains(parameters.topK) {
      candidates.gather(top: parameters.topK, floor: minP)
      if parameters.topP < 1 { candidates.keepNucleus(mass: Double(parameters.topP) * candidates.mass) }
      return candidates.token(at: uniform)
    }
    let mass = minP > 0 ? VectorScan.sum(weights, count: count, atLeast: minP) : total
    if parameters.topP < 1 {
      return candidates.drawFromNucleus(Double(parameters.topP), floor: minP, total: mass, uniform: uniform)
    }
    return VectorScan.index(whereSumPasses: uniform * mass, in: weights, count: count, atLeast: minP).map { Int32($0) }
  }
}
