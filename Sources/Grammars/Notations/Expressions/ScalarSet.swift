/// A set of Unicode scalar values, as sorted ranges that neither overlap nor touch. Surrogates are never in it.
struct ScalarSet: Hashable, Sendable {
  /// In ascending order.
  private(set) var ranges: [ClosedRange<UInt32>]

  /// The empty set.
  init() { ranges = [] }

  /// The scalars of ranges in any order.
  init(_ unordered: [ClosedRange<UInt32>]) {
    ranges = []
    for range in unordered.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = ranges.last, range.lowerBound <= last.upperBound + 1 {
        ranges[ranges.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        ranges.append(range)
      }
    }
    if ranges.contains(where: { $0.overlaps(0xD800...0xDFFF) }) { self = intersection(.all) }
  }

  /// The scalars of a range.
  init(_ range: ClosedRange<Unicode.Scalar>) { self.init([range.lowerBound.value...range.upperBound.value]) }

  /// The scalars of a text.
  init(_ text: String) { self.init(text.unicodeScalars.map { $0.value...$0.value }) }

  private init(disjoint ranges: [ClosedRange<UInt32>]) { self.ranges = ranges }

  /// Every scalar.
  static let all = ScalarSet(disjoint: [0...0xD7FF, 0xE000...0x10FFFF])

  /// Whether no scalar is in the set.
  var isEmpty: Bool { ranges.isEmpty }

  /// The scalars that are not in the set.
  var inverted: ScalarSet {
    var gaps: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for range in ranges {
      if range.lowerBound > next { gaps.append(next...range.lowerBound - 1) }
      next = range.upperBound + 1
    }
    if next <= 0x10FFFF { gaps.append(next...0x10FFFF) }
    return ScalarSet(disjoint: gaps).intersection(.all)
  }

  /// The scalars that are in either set.
  func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

  /// The scalars that are in both sets.
  func intersection(_ other: ScalarSet) -> ScalarSet {
    var common: [ClosedRange<UInt32>] = []
    var (i, j) = (0, 0)
    while i < ranges.count, j < other.ranges.count {
      let (a, b) = (ranges[i], other.ranges[j])
      if a.overlaps(b) { common.append(a.clamped(to: b)) }
      if a.upperBound < b.upperBound { i += 1 } else { j += 1 }
    }
    return ScalarSet(disjoint: common)
  }

  /// Whether the scalar is in the set, by binary search.
  func contains(_ scalar: UInt32) -> Bool {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < scalar { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].contains(scalar)
  }
}
