/// Passes over a row of floats as long as the vocabulary, sixteen at a time.
enum VectorScan {
  private typealias Lanes = SIMD16<Float>
  /// Floats whose maximum decides whether a caller looks at them one by one.
  static let blockLength = 128
  /// Floats among which `argmax` finds the first greatest one by one.
  private static let searchLength = 1024

  private static func load(_ values: UnsafePointer<Float>) -> Lanes {
    UnsafeRawPointer(values).loadUnaligned(as: Lanes.self)
  }

  /// The greatest of `count` values; NaN is passed over, and without a number the result is −∞.
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

  /// The greatest lane. A tree of four steps: a row has hundreds of blocks, and each waits for this.
  private static func highest(_ lanes: Lanes) -> Float {
    let eight = lanes.lowHalf.replacing(with: lanes.highHalf, where: lanes.highHalf .> lanes.lowHalf)
    let four = eight.lowHalf.replacing(with: eight.highHalf, where: eight.highHalf .> eight.lowHalf)
    let two = four.lowHalf.replacing(with: four.highHalf, where: four.highHalf .> four.lowHalf)
    return two.y > two.x ? two.y : two.x
  }

  /// The first index of the greatest of `count` values; 0 if none is a number.
  static func argmax(_ values: UnsafePointer<Float>, count: Int) -> Int {
    var best = -Float.infinity
    var start = 0
    for first in stride(from: 0, to: count, by: searchLength) {
      let highest = maximum(values + first, count: min(searchLength, count - first))
      if highest > best { (best, start) = (highest, first) }
    }
    for i in start..<count where values[i] == best { return i }
    return 0
  }

  /// Values that are summed in f32 before they are added to the double-precision total.
  static let sumLength = 1024

  /// The sum of those of `count` values that are at least `threshold`.
  static func sum(_ values: UnsafePointer<Float>, count: Int, atLeast threshold: Float) -> Double {
    var total = 0.0
    for start in stride(from: 0, to: count, by: sumLength) {
      total += shortSum(values + start, count: min(sumLength, count - start), atLeast: threshold)
    }
    return total
  }

  private static func shortSum(_ values: UnsafePointer<Float>, count: Int, atLeast threshold: Float) -> Double {
    let zero = Lanes(repeating: 0)
    let limits = Lanes(repeating: threshold)
    var lanes = zero
    var i = 0
    while i + 16 <= count {
      let next = load(values + i)
      lanes += zero.replacing(with: next, where: next .>= limits)
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

  /// The index at which the running sum of those values that are at least `threshold` passes `limit`; `nil` if it does
  /// not.
  static func index(
    whereSumPasses limit: Double, in values: UnsafePointer<Float>, count: Int, atLeast threshold: Float
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
      // The block's f32 sum was rounded up: its values one by one do not reach it.
      left = 0
    }
    return nil
  }
}
