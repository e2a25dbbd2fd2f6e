import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Compute {
  /// What one row of logits says of its target.
  public struct TargetScore: Sendable {
    /// −log p(target)
    public var loss: Double
    /// The target is the most probable token (the lowest id among equals).
    public var isBest: Bool
  }

  /// Scores targets under rows of logits, [targets.count][ld].
  ///
  /// - Parameter weights: if given, each row of logits is replaced by weight · (softmax − one-hot), the gradient of
  ///   weight · loss
  public func crossEntropy(
    _ logits: UnsafeMutablePointer<Float>, ld: Int, vocabulary: Int, targets: ArraySlice<Int32>,
    weights: ArraySlice<Float>?
  ) -> [TargetScore] {
    let expSum = kernels.functions.exp_sum!
    let scale = kernels.training.scale!
    let count = targets.count
    return [TargetScore](unsafeUninitializedCapacity: count) { scores, initialized in
      nonisolated(unsafe) let scores = scores
      pool.run(count: count, grain: 1) { range in
        for row in range {
          let line = logits + row * ld
          let target = Int(targets[targets.startIndex + row])
          var (highest, best) = (-Float.infinity, 0)
          for i in 0..<vocabulary where line[i] > highest { (highest, best) = (line[i], i) }
          let logit = line[target]
          let sum = expSum(line, vocabulary, highest, 1, weights == nil ? nil : line)
          if let weights {
            let weight = weights[weights.startIndex + row]
            scale(line, Float(Double(weight) / sum), vocabulary)
            line[target] -= weight
          }
          let loss = Double(highest) + log(sum) - Double(logit)
          (scores.baseAddress! + row).initialize(to: TargetScore(loss: loss, isBest: best == target))
        }
      }
      initialized = count
    }
  }
}
