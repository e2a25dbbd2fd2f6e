import CKernels

/// Settings of one step of AdamW (Loshchilov and Hutter, 2019): decoupled weight decay, moments in f32.
public struct AdamWStep: Sendable, Equatable {
  public var learningRate: Double
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var weightDecay: Double
  /// Steps including this one.
  public var count: Int
  /// A factor on the gradients: what clipping makes of them.
  public var gradientFactor: Double

  public init(
    learningRate: Double, beta1: Double, beta2: Double, epsilon: Double, weightDecay: Double, count: Int,
    gradientFactor: Double
  ) {
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.count = count
    self.gradientFactor = gradientFactor
  }

  fileprivate var settings: [Float] {
    var settings = [Float](repeating: 0, count: Int(GRAFT_ADAM_SETTINGS))
    func set(_ index: Int, _ value: Double) { settings[index] = Float(value) }
    let (first, second) = (1 - power(beta1, count), 1 - power(beta2, count))
    set(GRAFT_ADAM_RATE, learningRate / first)
    set(GRAFT_ADAM_DECAY, 1 - learningRate * weightDecay)
    set(GRAFT_ADAM_BETA1, beta1)
    set(GRAFT_ADAM_BETA2, beta2)
    set(GRAFT_ADAM_EPSILON, epsilon)
    set(GRAFT_ADAM_ROOT, second.squareRoot())
    set(GRAFT_ADAM_CLIP, gradientFactor)
    return settings
  }

  /// By squaring, so that it is the same everywhere.
  private func power(_ base: Double, _ exponent: Int) -> Double {
    var (result, factor, left) = (1.0, base, exponent)
    while left > 0 {
      if left & 1 == 1 { result *= factor }
      factor *= factor
      left >>= 1
    }
    return result
  }
}

extension Compute {
  /// Updates parameters and both moments, n values each.
  public func adamW(
    _ step: AdamWStep, parameters: UnsafeMutablePointer<Float>, gradients: UnsafePointer<Float>,
    mean: UnsafeMutablePointer<Float>, variance: UnsafeMutablePointer<Float>, count: Int
  ) {
    let function = kernels.training.adamw!
    let settings = step.settings
    pool.run(count: count, grain: 1 << 14) { range in
      let at = range.lowerBound
      function(parameters + at, gradients + at, mean + at, variance + at, range.count, settings)
    }
  }
}
