/// Passes over a vocabulary's worth of floats, sixteen at a time.
enum VectorScan {
  private typealias Lanes = SIMD16<Float>
  /// Floats that are looked at one by one only if the greatest of them is wanted.
  static let stretch = 128
  /// Floats among which the greatest is looked for one by one.
  private static let searchLength = 1024

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
    var best = highest(lanes)
    while i < count {
      if values[i] > best { best = values[i] }
      i += 1
    }
    return best
  }

  /// In few steps that wait for each other, since a vocabulary has many stretches.
  private static func highest(_ lanes: Lanes) -> Float {
    let eight = lanes.lowHalf.replacing(with: lanes.highHalf, where: lanes.highHalf .> lanes.lowHalf)
    let four = eight.lowHalf.replacing(with: eight.highHalf, where: eight.highHalf .> eight.lowHalf)
    let two = four.lowHalf.replacing(with: four.highHalf, where: four.highHalf .> four.lowHalf)
    return two.y > two.x ? two.y : two.x
  }

  /// Where the greatest of `count` values stands first; 0 if none is a number.
  static func argmax(_ values: UnsafePointer<Float>, count: Int) -> Int {
    var best = -Float.infinity
    var start = 0
    for at in stride(from: 0, to: count, by: searchLength) {
      let highest = maximum(values + at, count: min(searchLength, count - at))
      if highest > best { (best, start) = (highest, at) }
    }
    for i in start..<count where values[i] == best { return i }
    return 0
  }

  /// Values summed before they go into the double-precision total.
  static let sumLength = 1024

  /// Sum of those of `count` values that are at least `threshold`.
  static func sum(_ values: UnsafePointer<Float>, count: Int, atLeast threshold: Float) -> Double {
    var total = 0.0
    for start in stride(from: 0, to: count, by: sumLength) {
      total += shortSum(values + start, count: min(sumLength, count - start), atLeast: threshold)
    }
    return total
  }

  private static func shortSum(_ values: UnsafePointer<Float>, count: Int, atLeast threshold: Float) -> Double {
    let zero = Lanes(repeating: 0)
    let bar = Lanes(repeating: threshold)
    var lanes = zero
    var i = 0
    while i + 16 <= count {
      let next = load(values + i)
      lanes += zero.replacing(with: next, where: next .>= bar)
      i += 16
    }
    var total = 0.0
    for lane in lanes.indices { total += Double(lanes[lane]) }
    while i < count {
      if values[i] >= threshold { total += Double(values[i]) }
      i += 1
    }
    return total
  }

  /// Where the sum of those values that are at least `threshold` passes `limit`; `nil` if it does not.
  static func place(
    of limit: Double, in values: UnsafePointer<Float>, count: Int, atLeast threshold: Float
  ) -> Int? {
    var left = limit
    for start in stride(from: 0, to: count, by: sumLength) {
      let end = min(start + sumLength, count)
      let sum = shortSum(values + start, count: end - start, atLeast: threshold)
      if left >= sum {
        left -= sum
        continue
      }
      for i in start..<end where values[i] >= threshold {
        left -= Double(values[i])
        if left < 0 { return i }
      }
      // Rounding: the sum was a trifle more than its parts.
      left = 0
    }
    return nil
  }
}
