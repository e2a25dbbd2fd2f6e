/// The tokens that a draw can choose, found by their weights without sorting the vocabulary. Among equal weights the lower
/// id comes first.
struct Candidates {
  /// [vocabulary]: exp of the scaled logits, the greatest 1.
  private let weights: UnsafePointer<Float>
  private let vocabulary: Int
  /// [vocabulary], the first `count` in use, in no particular order.
  private let ids: UnsafeMutablePointer<Int32>
  private(set) var count = 0
  /// About so many tokens are looked at one by one, instead of another pass over the vocabulary.
  private static let fewTokens = 512.0

  /// - Parameters:
  ///   - weights: [count], exp of the scaled logits, the greatest 1
  ///   - ids: room for `count` ids
  init(weights: UnsafePointer<Float>, count: Int, ids: UnsafeMutablePointer<Int32>) {
    self.weights = weights
    vocabulary = count
    self.ids = ids
  }

  /// Makes every token a candidate whose weight is at least `low` and less than `high`.
  private mutating func gather(from low: Float, below high: Float) {
    count = 0
    for start in stride(from: 0, to: vocabulary, by: VectorScan.blockLength) {
      let end = min(start + VectorScan.blockLength, vocabulary)
      guard VectorScan.maximum(weights + start, count: end - start) >= low else { continue }
      for i in start..<end where weights[i] >= low && weights[i] < high {
        ids[count] = Int32(truncatingIfNeeded: i)
        count += 1
      }
    }
  }

  /// Draws from the nucleus (Holtzman et al., 2020): the smallest set of most probable tokens that has this share of the
  /// mass.
  ///
  /// Bisection narrows down the smallest weight in the set; only the tokens between the last two thresholds are looked at
  /// one by one.
  /// - Parameters:
  ///   - floor: tokens of smaller weights do not take part
  ///   - total: the mass of the tokens that take part
  ///   - uniform: the random number, in [0, 1)
  mutating func drawFromNucleus(_ nucleus: Double, floor: Float, total: Double, uniform: Double) -> Int32? {
    let wanted = nucleus * total
    // All tokens below this weight together have no more mass than the nucleus may leave out.
    let floor = max(floor, Float((1 - nucleus) * total / Double(vocabulary)))
    // The tokens from weight `low` on have the wanted mass, those from `high` on do not.
    var low: Float = 1
    var high = Float.infinity
    var (lowMass, highMass) = (0.0, 0.0)
    repeat {
      low = max(low / 16, floor)
      lowMass = VectorScan.sum(weights, count: vocabulary, atLeast: low)
      if lowMass >= wanted { break }
      if low > floor { (high, highMass) = (low, lowMass) }
    } while low > floor
    // Bisection, for as long as there may be many tokens between the two.
    for _ in 0..<24 {
      guard lowMass - highMass > Self.fewTokens * Double(low) else { break }
      let top = min(high, 1)
      let middle = Float(bitPattern: low.bitPattern / 2 + top.bitPattern / 2)
      guard middle > low, middle < top else { break }
      let mass = VectorScan.sum(weights, count: vocabulary, atLeast: middle)
      if mass >= wanted { (low, lowMass) = (middle, mass) } else { (high, highMass) = (middle, mass) }
    }
    gather(from: low, below: high)
    keepNucleus(mass: wanted - highMass)
    let bandMass = mass
    let limit = uniform * (highMass + bandMass)
    if limit < bandMass { return token(at: limit / bandMass) }
    return VectorScan.index(whereSumPasses: limit - bandMass, in: weights, count: vocabulary, atLeast: high).map {
      Int32($0)
    }
  }

  /// Makes the `wanted` tokens of the greatest weights candidates, of those whose weight is at least `floor`.
  mutating func gather(top wanted: Int, floor: Float) {
    count = 0
    // Up to twice as many as wanted are collected. Then the smaller half is removed, and the threshold rises to the
    // smallest weight that remains.
    let capacity = min(vocabulary, max(2 * min(wanted, vocabulary), VectorScan.blockLength))
    var threshold = floor
    var isFull = false
    for start in stride(from: 0, to: vocabulary, by: VectorScan.blockLength) {
      let end = min(start + VectorScan.blockLength, vocabulary)
      guard VectorScan.maximum(weights + start, count: end - start) >= threshold else { continue }
      for i in start..<end where isFull ? weights[i] > threshold : weights[i] >= threshold {
        if count == capacity {
          select(wanted)
          isFull = true
          threshold = lowest()
          guard weights[i] > threshold else { continue }
        }
        ids[count] = Int32(truncatingIfNeeded: i)
        count += 1
      }
    }
    select(wanted)
  }

  private func lowest() -> Float {
    var lowest = Float.infinity
    for index in 0..<count { lowest = min(lowest, weight(index)) }
    return lowest
  }

  /// The sum of the candidates' weights.
  var mass: Double {
    var sum = 0.0
    for index in 0..<count { sum += Double(weight(index)) }
    return sum
  }

  /// The token at which the running sum of weights, in the order of `ids`, passes `share` of their mass.
  func token(at share: Double) -> Int32? {
    var left = share * mass
    for index in 0..<count {
      left -= Double(weight(index))
      if left < 0 { return ids[index] }
    }
    return nil
  }

  // MARK: partial selection

  private func weight(_ index: Int) -> Float { weights[Int(ids[index])] }

  /// Whether the token comes before the other in descending order.
  private func precedes(_ a: Int32, _ b: Int32) -> Bool {
    let (first, second) = (weights[Int(a)], weights[Int(b)])
    return first > second || first == second && a < b
  }

  /// Keeps the first `wanted` of the descending order.
  private mutating func select(_ wanted: Int) {
    guard count > wanted else { return }
    narrow { boundary, _ in boundary >= wanted }
    count = wanted
  }

  /// Keeps the shortest beginning of the descending order whose weights reach `wanted`; at least one token.
  mutating func keepNucleus(mass wanted: Double) {
    let (start, before) = narrow { _, mass in mass >= wanted }
    var sum = before
    for index in start..<count {
      sum += Double(weight(index))
      if sum >= wanted {
        count = index + 1
        return
      }
    }
  }

  /// Quickselect (Hoare, 1961): sorts the ids in descending order around the index where `reaches` becomes true, and no
  /// others.
  /// - Parameter reaches: is given a number of ids and the mass of so many of the first; true from some number on
  /// - Returns: the index from which on the order is exact up to the one that was sought, and the mass before it
  @discardableResult
  private func narrow(_ reaches: (Int, Double) -> Bool) -> (start: Int, before: Double) {
    var (low, high) = (0, count)
    var before = 0.0
    // So many rounds mean that the weights were chosen to make quickselect slow; sorting the rest bounds the time.
    var rounds = 64
    while high - low > 24, rounds > 0 {
      rounds -= 1
      let (middle, mass) = partition(low, high)
      if reaches(middle, before + mass) {
        high = middle
      } else {
        before += mass
        low = middle
      }
    }
    var rest = UnsafeMutableBufferPointer(start: ids + low, count: high - low)
    rest.sort(by: precedes)
    return (low, before)
  }

  /// Splits [low, high) at the median of three, which goes with the first part.
  /// - Returns: where the second part begins, inside (low, high), and the first part's mass
  private func partition(_ low: Int, _ high: Int) -> (middle: Int, mass: Double) {
    let middle = low + (high - low) / 2
    if precedes(ids[middle], ids[low]) { swap(middle, low) }
    if precedes(ids[high - 1], ids[middle]) {
      swap(high - 1, middle)
      if precedes(ids[middle], ids[low]) { swap(middle, low) }
    }
    // The last of the three is behind the pivot, so the second part is never empty.
    let pivot = ids[middle]
    swap(middle, low)
    var last = low
    var mass = Double(weights[Int(pivot)])
    for i in (low + 1)..<high where precedes(ids[i], pivot) {
      last += 1
      mass += Double(weight(i))
      swap(i, last)
    }
    swap(low, last)
    return (last + 1, mass)
  }

  private func swap(_ a: Int, _ b: Int) {
    let id = ids[a]
    ids[a] = ids[b]
    ids[b] = id
  }
}
