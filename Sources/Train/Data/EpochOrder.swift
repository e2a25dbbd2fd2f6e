import Kernels

/// Which examples an optimiser step takes. Epochs follow each other without a gap, and each has its own order.
///
/// An order is made once for each epoch, in chunks of bounded work (`prepare`), however many examples there are.
final class EpochOrder {
  /// The purposes of random numbers. Each purpose has its own sequence.
  enum Stream: UInt64 { case shuffle = 1, split = 2, initialization = 3, dropout = 4 }

  let count: Int
  let seed: Int
  let shuffle: Bool
  /// The orders of the last two epochs that were used: a step may lie across the end of an epoch.
  private var known: [(epoch: Int, order: [Int32])] = []

  /// The maximum number of examples that one slice sorts.
  static let chunkSize = 1 << 14

  /// - Parameters:
  ///   - count: examples in an epoch
  ///   - shuffle: whether each epoch has a random order; false keeps the order of the data
  init(count: Int, seed: Int, shuffle: Bool) {
    self.count = count
    self.seed = seed
    self.shuffle = shuffle
  }

  /// The maximum memory that the orders of `count` examples take in bytes, including the sorting of one.
  static func bytes(count: Int, shuffle: Bool) -> Int { shuffle ? count * (3 * 4 + 16) : 0 }

  /// - Parameter position: examples taken since the beginning of training
  /// - Returns: the example's index
  func example(at position: Int) -> Int {
    guard shuffle else { return position % count }
    let epoch = position / count
    prepare(epoch: epoch) { $0() }
    return known.first { $0.epoch == epoch }.map { Int($0.order[position % count]) } ?? 0
  }

  /// Makes the orders that looking up these positions needs, if there are many examples. With few examples, orders are
  /// made when they are first used.
  func prepare(_ positions: Range<Int>, _ slices: any TrainingSlices) throws(TrainingInterruption) {
    guard count > Self.chunkSize else { return }
    for epoch in Set([positions.lowerBound / count, (positions.upperBound - 1) / count]).sorted() {
      try prepare(epoch: epoch) { (work) throws(TrainingInterruption) in try slices.slice(work) }
    }
  }

  /// Makes an epoch's order unless it is known.
  /// - Parameter slice: is given a piece of work of bounded size, and calls it once
  func prepare<Failure: Error>(epoch: Int, slice: (() -> Void) throws(Failure) -> Void) throws(Failure) {
    guard shuffle, !known.contains(where: { $0.epoch == epoch }) else { return }
    var sorting = DrawSorting(count: count, seed: seed, stream: .shuffle, epoch: epoch)
    try sorting.sort(slice: slice)
    if known.count > 1 { known.removeFirst() }
    known.append((epoch, sorting.order))
  }

  /// The indices 0 ..< count, sorted by one random number for each.
  static func permutation(count: Int, seed: Int, stream: Stream, epoch: Int = 0) -> [Int] {
    var sorting = DrawSorting(count: count, seed: seed, stream: stream, epoch: epoch)
    sorting.sort { $0() }
    return sorting.order.map(Int.init)
  }
}

/// Sorts indices by their random numbers. These are spread evenly, so the highest bits choose a bucket for each index,
/// and the buckets, all of about the same size, are sorted one by one.
private struct DrawSorting {
  /// The indices, which are sorted once `sort` has returned.
  private(set) var order: [Int32]
  private let count: Int
  private let keys: [CounterKey]
  private let bucketBits: Int
  private var draws: [UInt64]
  /// For each bucket: first the number of its indices, then the place of its next one, and finally its end.
  private var cursors: [Int]

  init(count: Int, seed: Int, stream: EpochOrder.Stream, epoch: Int) {
    self.count = count
    keys = [0, 1].map { part in
      CounterKey(UInt64(bitPattern: Int64(seed)), stream.rawValue, UInt64(epoch), UInt64(part))
    }
    // A bucket has about 64 indices.
    bucketBits = max(0, Int.bitWidth - (count >> 6).leadingZeroBitCount)
    // Not initialised, because `sort` writes every element, and clearing so much memory in one slice could take too
    // long.
    order = Array(unsafeUninitializedCapacity: count) { $1 = count }
    draws = Array(unsafeUninitializedCapacity: count) { $1 = count }
    cursors = Array(repeating: 0, count: 1 << bucketBits)
  }

  mutating func sort<Failure: Error>(slice: (() -> Void) throws(Failure) -> Void) throws(Failure) {
    let size = EpochOrder.chunkSize
    for first in stride(from: 0, to: count, by: size) { try slice { draw(first..<min(first + size, count)) } }
    try slice { findBuckets() }
    for first in stride(from: 0, to: count, by: size) { try slice { distribute(first..<min(first + size, count)) } }
    let buckets = size >> 6
    for first in stride(from: 0, to: cursors.count, by: buckets) {
      try slice { sortBuckets(first..<min(first + buckets, cursors.count)) }
    }
  }

  private func bucket(_ draw: UInt64) -> Int { bucketBits == 0 ? 0 : Int(draw >> UInt64(64 - bucketBits)) }

  private mutating func draw(_ indices: Range<Int>) {
    for i in indices {
      let at = UInt32(truncatingIfNeeded: i)
      draws[i] = UInt64(keys[0][at]) << 32 | UInt64(keys[1][at])
      cursors[bucket(draws[i])] += 1
    }
  }

  private mutating func findBuckets() {
    var next = 0
    for bucket in cursors.indices { (cursors[bucket], next) = (next, next + cursors[bucket]) }
  }

  private mutating func distribute(_ indices: Range<Int>) {
    for i in indices {
      let bucket = bucket(draws[i])
      order[cursors[bucket]] = Int32(i)
      cursors[bucket] += 1
    }
  }

  /// By now each cursor is the end of its bucket, where the next bucket begins.
  private mutating func sortBuckets(_ buckets: Range<Int>) {
    for bucket in buckets {
      let first = bucket == 0 ? 0 : cursors[bucket - 1]
      let sorted = order[first..<cursors[bucket]].sorted { (draws[Int($0)], $0) < (draws[Int($1)], $1) }
      for (offset, index) in sorted.enumerated() { order[first + offset] = index }
    }
  }
}
