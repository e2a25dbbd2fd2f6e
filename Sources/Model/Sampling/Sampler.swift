public import Kernels

/// How the next token is drawn from the logits.
public struct SamplingParameters: Sendable, Equatable {
  /// 0 takes the most probable token.
  public var temperature: Float
  /// The smallest set of most probable tokens whose probabilities reach this sum stays (Holtzman et al., 2020).
  public var topP: Float
  public var seed: UInt64

  public init(temperature: Float = 1, topP: Float = 1, seed: UInt64) {
    self.temperature = temperature
    self.topP = topP
    self.seed = seed
  }
}

/// Draws tokens. A draw depends on the logits, the seed and the token's index alone, so it is the same whatever
/// else is computed beside it.
public struct Sampler: Sendable {
  private let parameters: SamplingParameters

  public init(_ parameters: SamplingParameters) { self.parameters = parameters }

  /// - Parameter index: of the token among those generated, from 0
  public func draw(_ row: LogitRow, index: Int, compute: Compute) -> Int32 {
    let best = row.argmax
    let factor = 1 / parameters.temperature
    // Below about 3e-39 the factor is infinite, and the limit is greedy.
    guard parameters.temperature > 0, factor.isFinite, let logits = row.values.baseAddress else { return best }
    let count = row.values.count
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { weights in
      guard let pointer = weights.baseAddress else { return best }
      let total = compute.expSum(
        logits, count: count, highest: logits[Int(best)], factor: factor, into: pointer)
      var random = CounterRandom(seed: parameters.seed, counter: UInt64(index))
      let draw = random.unit()
      if parameters.topP < 1 {
        return drawFromNucleus(UnsafePointer(pointer), count: count, total: total, best: best, draw: draw)
      }
      var left = draw * total
      for i in 0..<count {
        left -= Double(pointer[i])
        if left < 0 { return Int32(i) }
      }
      return best
    }
  }

  private func drawFromNucleus(
    _ weights: UnsafePointer<Float>, count: Int, total: Double, best: Int32, draw: Double
  ) -> Int32 {
    // Only tokens above a threshold are sorted; it is lowered until their mass reaches the nucleus.
    let wanted = Double(parameters.topP) * total
    var threshold = weights[Int(best)] / 64
    var candidates: [Int32] = []
    while true {
      candidates.removeAll(keepingCapacity: true)
      var mass = 0.0
      for i in 0..<count where weights[i] >= threshold {
        candidates.append(Int32(i))
        mass += Double(weights[i])
      }
      // Written so that it ends also where a logit is no number.
      if mass >= wanted || candidates.count == count || !(threshold > 0) { break }
      threshold = threshold < 1e-30 ? 0 : threshold / 64
    }
    candidates.sort { (weights[Int($1)], $0) < (weights[Int($0)], $1) }
    var kept = 0
    var mass = 0.0
    while kept < candidates.count {
      mass += Double(weights[Int(candidates[kept])])
      kept += 1
      if mass >= wanted { break }
    }
    var left = draw * mass
    for token in candidates.prefix(kept) {
      left -= Double(weights[Int(token)])
      if left < 0 { return token }
    }
    return best
  }
}

/// A counter-based generator: output n of a seed is a hash of both (SplitMix64's finaliser; Steele, Lea and Flood, 2014).
public struct CounterRandom: Sendable {
  private var state: UInt64

  public init(seed: UInt64, counter: UInt64) {
    state =
      Self.mix(seed &+ 0x9E37_79B9_7F4A_7C15) ^ Self.mix(counter &* 0xD1B5_4A32_D192_ED03 &+ 0x8CB9_2BA7_2F3D_8DD7)
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Self.mix(state)
  }

  /// In [0, 1), 53 bits.
  public mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
