/// Tokens that stay in the draw, chosen by weight without sorting the vocabulary. Of equal weights the lower id comes
/// first.
struct Candidates {
  /// [vocabulary]: exp of the scaled logits, the greatest 1.
  private let weights: UnsafePointer<Float>
  private let vocabulary: Int
  /// [vocabulary], the first `count` in use, in no particular order.
  private let ids: UnsafeMutablePointer<Int32>
  private(set) var count = 0
  /// So many are looked at one by one.
  private static let fewTokens = 512.0

  init(weights: UnsafePointer<Float>, count: Int, ids: UnsafeMutablePointer<Int32>) {
    self.weights = weights
    vocabulary = count
    self.ids = ids
  }

  /// Takes every token whose weight is at least `low` and less than `high`.
  private mutating func gather(from low: Float, below high: Float) {
    count = 0
    for start in stride(from: 0, to: vocabulary, by: VectorScan.stretch) {
      let end = min(start + VectorScan.stretch, vocabulary)
      guard VectorScan.maximum(weights + start, count: end - start) >= low else { continue }
      for i in start..<end where weights[i] >= low && weights[i] < high {
        ids[count] = Int32(truncatingIfNeeded: i)
        count += 1
      }
    }
  }

  /// Draws from the smallest set of most probable tokens that has this share of the mass.
  ///
  /// Thresholds close in on the set's least weight; only the tokens between the last two are looked at one by one.
  /// - Parameters:
  ///   - floor: lesser weights do not take part
  ///   - total: the mass of those that do
  ///   - place: of the draw, in [0, 1)
  mutating func drawFromNucleus(_ nucleus: Double, floor: Float, total: Double, at place: Double) -> Int32? {
    let wanted = nucleus * total
    // All tokens below this weight together weigh no more than what the nucleus may leave out.
    let floor = max(floor, Float((1 - nucleus) * total / Double(vocabulary)))
    // The mass from `low` on reaches what is wanted, the mass from `high` on does not.
    var low: Float = 1
    var high = Float.infinity
    var (lowMass, highMass) = (0.0, 0.0)
    repeat {
      low = max(low / 16, floor)
      lowMass = VectorScan.sum(weights, count: vocabulary, atLeast: low)
      if lowMass >= wanted { break }
      if low > floor { (high, highMass) = (low, lowMass) }
    } while low > floor
    // As long as there can be many tokens between the two.
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
    let limit = place * (highMass + bandMass)
    if limit < bandMass { return token(at: limit / bandMass) }
    return VectorScan.place(of: limit - bandMass, in: weights, count: vocabulary, atLeast: high).map { Int32($0) }
  }

  /// Takes the `wanted` tokens of greatest weight among those of at least this one.
  mutating func gather(most wanted: Int, atLeast threshold: Float) {
    count = 0
    // Kept to twice what is wanted: when that is full the lesser half goes, and the bar is as high as what remains.
    let capacity = min(vocabulary, max(2 * min(wanted, vocabulary), VectorScan.stretch))
    var bar = threshold
    var isFull = false
    for start in stride(from: 0, to: vocabulary, by: VectorScan.stretch) {
      let end = min(start + VectorScan.stretch, vocabulary)
      guard VectorScan.maximum(weights + start, count: end - start) >= bar else { continue }
      for i in start..<end where isFull ? weights[i] > bar : weights[i] >= bar {
        if count == capacity {
          select(wanted)
          isFull = true
          bar = lowest()
          guard weights[i] > bar else { continue }
        }
        ids[count] = Int32(truncatingIfNeeded: i)
        count += 1
      }
    }
    select(wanted)
  }

  private func lowest() -> Float {
    var lowest = Float.infinity
    for place in 0..<count { lowest = min(lowest, weight(place)) }
    return lowest
  }

  var mass: Double {
    var sum = 0.0
    for place in 0..<count { sum += Double(weight(place)) }
    return sum
  }

  /// The token at which a sum of weights, taken in the order of `ids`, passes `share` of their mass.
  func token(at share: Double) -> Int32? {
    var left = share * mass
    for place in 0..<count {
      left -= Double(weight(place))
      if left < 0 { return ids[place] }
    }
    return nil
  }

  // MARK: partial selection

  private func weight(_ place: Int) -> Float { weights[Int(ids[place])] }

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
    for place in start..<count {
      sum += Double(weight(place))
      if sum >= wanted {
        count = place + 1
        return
      }
    }
  }

  /// Quickselect: puts the ids in descending order around the place where `reaches` turns true, without sorting what is
  /// far from it. `reaches` is told how many ids the beginning has, and their mass.
  /// - Returns: from where on the order is exact up to that place, and the mass before it
  @discardableResult
  private func narrow(_ reaches: (Int, Double) -> Bool) -> (start: Int, before: Double) {
    var (low, high) = (0, count)
    var before = 0.0
    // Past so many rounds somebody has arranged the weights; sorting what is left has a bound.
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
    var place = low
    var mass = Double(weights[Int(pivot)])
    for i in (low + 1)..<high where precedes(ids[i], pivot) {
      place += 1
      mass += Double(weight(i))
      swap(i, place)
    }
    swap(low, place)
    return (place + 1, mass)
  }

  private func swap(_ a: Int, _ b: Int) {
    let id = ids[a]
    ids[a] = ids[b]
    ids[b] = id
  }
}
