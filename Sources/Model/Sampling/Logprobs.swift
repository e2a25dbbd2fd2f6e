public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A token's natural log-probability.
public struct TokenLogprob: Sendable, Equatable {
  /// The token's id.
  public let token: Int32
  /// ln p, at most 0.
  public let logprob: Float

  /// - Parameters: as the properties
  public init(token: Int32, logprob: Float) {
    self.token = token
    self.logprob = logprob
  }
}

/// One row of logits, as the model's distribution before bias, penalties and temperature.
public struct LogitRow {
  /// [vocabulary size]
  public let values: UnsafeBufferPointer<Float>
  private let compute: Compute

  /// - Parameters:
  ///   - values: [vocabulary size]; valid as long as the row is used
  ///   - compute: sums the exponentials
  public init(_ values: UnsafeBufferPointer<Float>, compute: Compute) {
    self.values = values
    self.compute = compute
  }

  /// Whether every logit is a finite number.
  public var isFinite: Bool {
    values.baseAddress.map { Compute.allMagnitudes(of: $0, count: values.count, areAtMost: .greatestFiniteMagnitude) }
      ?? true
  }

  /// The token of the greatest logit, the lowest id among equal ones; 0 if no logit is a number.
  public var argmax: Int32 {
    values.baseAddress.map { Int32(VectorScan.argmax($0, count: values.count)) } ?? 0
  }

  /// ln Σ exp(logit), from which log-probabilities are computed.
  public var logSumExp: Double {
    guard let pointer = values.baseAddress else { return 0 }
    let highest = values[Int(argmax)]
    return Double(highest) + log(compute.expSum(pointer, count: values.count, maximum: highest, factor: 1, into: nil))
  }

  /// - Parameter logSumExp: the row's
  public func logprob(_ token: Int32, logSumExp: Double) -> TokenLogprob {
    TokenLogprob(token: token, logprob: Float(Double(values[Int(token)]) - logSumExp))
  }

  /// A token's place among all tokens, the most probable one's being 1. Among equals the lower id comes first.
  public func rank(_ token: Int32) -> Int {
    let (index, own) = (Int(token), values[Int(token)])
    var rank = 1
    for other in 0..<index where values[other] >= own { rank += 1 }
    for other in index + 1..<values.count where values[other] > own { rank += 1 }
    return rank
  }

  /// The `count` most probable tokens, most probable first, the lower id first among equals.
  public func top(_ count: Int, logSumExp: Double) -> [TokenLogprob] {
    var best: [Int32] = []
    guard count > 0, let pointer = values.baseAddress else { return [] }
    for start in stride(from: 0, to: values.count, by: VectorScan.blockLength) {
      let end = min(start + VectorScan.blockLength, values.count)
      if best.count == count,
        VectorScan.maximum(pointer + start, count: end - start) <= values[Int(best[count - 1])]
      {
        continue
      }
      for i in start..<end where best.count < count || values[i] > values[Int(best[best.count - 1])] {
        if best.count == count { best.removeLast() }
        var index = best.count
        while index > 0, values[Int(best[index - 1])] < values[i] { index -= 1 }
        best.insert(Int32(i), at: index)
      }
    }
    return best.map { logprob($0, logSumExp: logSumExp) }
  }
}
