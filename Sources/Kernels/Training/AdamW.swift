import CKernels

/// The settings of one step of AdamW (Loshchilov and Hutter, 2019): Adam with decoupled weight decay, moments in f32.
public struct AdamWStep: Sendable, Equatable {
  /// The step size, before the correction of the moments.
  public var learningRate: Double
  /// Decay of the mean of the gradients, in 0 ..< 1.
  public var beta1: Double
  /// Decay of the mean of the squared gradients, in 0 ..< 1.
  public var beta2: Double
  /// Added to the root of the variance.
  public var epsilon: Double
  /// Decoupled weight decay: this times the learning rate is the fraction of a parameter that is subtracted from it.
  public var weightDecay: Double
  /// The number of this step, from 1.
  public var count: Int
  /// A factor on all gradients, by which they are clipped.
  public var gradientFactor: Double

  /// - Parameters: as the properties
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

  /// The settings as the kernel reads them.
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

  /// Computed by repeated squaring, so that the result does not depend on the C library's `pow`.
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
  /// Updates parameters and both moments.
  /// - Parameters:
  ///   - parameters: [count], updated
  ///   - gradients: [count]
  ///   - mean: [count], updated
  ///   - variance: [count], updated
  public func adamW(
    _ step: AdamWStep, parameters: UnsafeMutablePointer<Float>, gradients: UnsafePointer<Float>,
    mean: UnsafeMutablePointer<Float>, variance: UnsafeMutablePointer<Float>, count: Int
  ) {
    let kernel = kernels.training.adamw
    let settings = step.settings
    pool.run(count: count, grain: 1 << 14) { range in
      let first = range.lowerBound
      kernel(parameters + first, gradients + first, mean + first, variance + first, range.count, settings)
    }
  }
}
