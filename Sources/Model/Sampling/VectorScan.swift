/// Passes over a vocabulary's worth of floats, sixteen at a time.
enum VectorScan {
  private typealias Lanes = SIMD16<Float>
  /// Floats that are looked at one by one only if the greatest of them is wanted.
  static let stretch = 128

  private static func load(_ values: UnsafePointer<Float>) -> Lanes {
    UnsafeRawPointer(values).loadUnaligned(as: Lanes.self)
  }

  /// The greatest of `count` values that are numbers, −∞ if there is none.
  static func maximum(_ values: UnsafePointer<Float>, count: Int) -> Float {
    var lanes = Lanes(repeating: -.infinity)
    var i = 0
    while i + 16 <= count {
      let next = load(values + i)
      lanes.replace(with: next, where: next .> lanes)
      i += 16
    }
    var best = -Float.infinity
    for lane in lanes.indices where lanes[lane] > best { best = lanes[lane] }
    while i < count {
      if values[i] > best { best = values[i] }
      i += 1
    }
    return best
  }

  /// Where the greatest of `count` values stands first; 0 if none is a number.
  static func argmax(_ values: UnsafePointer<Float>, count: Int) -> Int {
    var best = -Float.infinity
    var start = 0
    for at in stride(from: 0, to: count, by: stretch) {
      let highest = maximum(values + at, count: min(stretch, count - at))
      if highest > best { (best, start) = (highest, at) }
    }
    for i in start..<count where values[i] == best { return i }
    return 0
  }

  /// Sum of `count` values.
  static func sum(_ values: UnsafePointer<Float>, count: Int) -> Double {
    var lanes = Lanes(repeating: 0)
    var i = 0
    while i + 16 <= count {
      lanes += load(values + i)
      i += 16
    }
    var total = 0.0
    for lane in lanes.indices { total += Double(lanes[lane]) }
    while i < count {
      total += Double(values[i])
      i += 1
    }
    return total
  }
}
