public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A token's natural log-probability.
public struct TokenLogprob: Sendable, Equatable {
  public let token: Int32
  public let logprob: Float

  public init(token: Int32, logprob: Float) {
    self.token = token
    self.logprob = logprob
  }
}

/// One row of logits, read as the model's unmodified distribution: before temperature, penalties and masks.
public struct LogitRow {
  public let values: UnsafeBufferPointer<Float>
  private let compute: Compute

  /// - Parameter values: [vocabulary size]
  public init(_ values: UnsafeBufferPointer<Float>, compute: Compute) {
    self.values = values
    self.compute = compute
  }

  /// Whether every logit is a finite number.
  public var isFinite: Bool {
    values.baseAddress.map { Compute.allMagnitudes(of: $0, count: values.count, areAtMost: .greatestFiniteMagnitude) }
      ?? true
  }

  /// The lowest id among the greatest logits; 0 where none is a number.
  public var argmax: Int32 {
    values.baseAddress.map { Int32(VectorScan.argmax($0, count: values.count)) } ?? 0
  }

  /// log Σ exp(logit).
  public var logSumExp: Double {
    guard let pointer = values.baseAddress else { return 0 }
    let highest = values[Int(argmax)]
    return Double(highest) + log(compute.expSum(pointer, count: values.count, maximum: highest, factor: 1, into: nil))
  }

  public func logprob(_ token: Int32, logSumExp: Double) -> TokenLogprob {
    TokenLogprob(token: token, logprob: Float(Double(values[Int(token)]) - logSumExp))
  }

  /// The `count` most probable tokens, most probable first, the lower id first among equals.
  public func top(_ count: Int, logSumExp: Double) -> [TokenLogprob] {
    var best: [Int32] = []
    guard count > 0, let pointer = values.baseAddress else { return [] }
    for start in stride(from: 0, to: values.count, by: VectorScan.stretch) {
      let end = min(start + VectorScan.stretch, values.count)
      if best.count == count,
        VectorScan.maximum(pointer + start, count: end - start) <= values[Int(best[count - 1])]
      {
        continue
      }
      for i in start..<end where best.count < count || values[i] > values[Int(best[best.count - 1])] {
        if best.count == count { best.removeLast() }
        var place = best.count
        while place > 0, values[Int(best[place - 1])] < values[i] { place -= 1 }
        best.insert(Int32(i), at: place)
      }
    }
    return best.map { logprob($0, logSumExp: logSumExp) }
  }
}
