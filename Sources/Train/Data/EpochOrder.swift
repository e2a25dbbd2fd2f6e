import Kernels

/// Which examples an optimiser step takes: epoch after epoch without a gap, each in an order of its own.
///
/// An order is made once for each epoch, in chunks of bounded work (`prepare`), however many examples there are.
final class EpochOrder {
  /// What random draws are for: each purpose has draws of its own.
  enum Stream: UInt64 { case shuffle = 1, split = 2, initialization = 3, dropout = 4 }

  let count: Int
  let seed: Int
  let shuffle: Bool
  /// The orders of the two epochs that were asked for last: a step may lie across the end of one.
  private var known: [(epoch: Int, order: [Int32])] = []

  /// Examples that one turn deals with.
  static let chunkSize = 1 << 14

  /// - Parameters:
  ///   - count: examples in an epoch
  ///   - shuffle: false takes them as they come
  init(count: Int, seed: Int, shuffle: Bool) {
    self.count = count
    self.seed = seed
    self.shuffle = shuffle
  }

  /// Bytes that the orders of so many examples take, the making of one included.
  static func bytes(count: Int, shuffle: Bool) -> Int { shuffle ? count * (3 * 4 + 16) : 0 }

  /// - Parameter position: examples taken since the beginning of training
  /// - Returns: the example's index
  func example(at position: Int) -> Int {
    guard shuffle else { return position % count }
    let epoch = position / count
    prepare(epoch: epoch) { $0() }
    return known.first { $0.epoch == epoch }.map { Int($0.order[position % count]) } ?? 0
  }

  /// Makes the orders that looking up these positions takes, if there are many examples; those of few are made as they
  /// are needed.
  func prepare(_ positions: Range<Int>, _ turns: any TrainingTurns) throws(TrainingInterruption) {
    guard count > Self.chunkSize else { return }
    for epoch in Set([positions.lowerBound / count, (positions.upperBound - 1) / count]).sorted() {
      try prepare(epoch: epoch) { (work) throws(TrainingInterruption) in try turns.turn(work) }
    }
  }

  /// Makes an epoch's order unless it is known.
  /// - Parameter turn: is called with work of bounded size, and calls it once
  func prepare<Failure: Error>(epoch: Int, turn: (() -> Void) throws(Failure) -> Void) throws(Failure) {
    guard shuffle, !known.contains(where: { $0.epoch == epoch }) else { return }
    var sorting = DrawSorting(count: count, seed: seed, stream: .shuffle, epoch: epoch)
    try sorting.sort(turn: turn)
    if known.count > 1 { known.removeFirst() }
    known.append((epoch, sorting.order))
  }

  /// Indices in the order of a draw for each.
  static func permutation(count: Int, seed: Int, stream: Stream, epoch: Int = 0) -> [Int] {
    var sorting = DrawSorting(count: count, seed: seed, stream: stream, epoch: epoch)
    sorting.sort { $0() }
    return sorting.order.map(Int.init)
  }
}

/// Sorts indices by their draws, which are spread evenly: each goes into the bucket of its draw's highest bits, and the
/// buckets, all of about the same size, are sorted one by one.
private struct DrawSorting {
  /// The indices, sorted after `sort`.
  private(set) var order: [Int32]
  private let count: Int
  private let keys: [CounterKey]
  private let bucketBits: Int
  private var draws: [UInt64]
  /// Of each bucket: at first how many indices it gets, then where its next one goes.
  private var cursors: [Int]

  init(count: Int, seed: Int, stream: EpochOrder.Stream, epoch: Int) {
    self.count = count
    keys = [0, 1].map { part in
      CounterKey(UInt64(bitPattern: Int64(seed)), stream.rawValue, UInt64(epoch), UInt64(part))
    }
    // About 64 indices to a bucket.
    bucketBits = max(0, Int.bitWidth - (count >> 6).leadingZeroBitCount)
    // Not touched before `sort` writes to it: clearing so much at once could take too long.
    order = Array(unsafeUninitializedCapacity: count) { $1 = count }
    draws = Array(unsafeUninitializedCapacity: count) { $1 = count }
    cursors = Array(repeating: 0, count: 1 << bucketBits)
  }

  mutating func sort<Failure: Error>(turn: (() -> Void) throws(Failure) -> Void) throws(Failure) {
    let size = EpochOrder.chunkSize
    for first in stride(from: 0, to: count, by: size) { try turn { draw(first..<min(first + size, count)) } }
    try turn { findBuckets() }
    for first in stride(from: 0, to: count, by: size) { try turn { distribute(first..<min(first + size, count)) } }
    let buckets = size >> 6
    for first in stride(from: 0, to: cursors.count, by: buckets) {
      try turn { sortBuckets(first..<min(first + buckets, cursors.count)) }
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

  /// Each bucket's cursor is now where the next bucket begins.
  private mutating func sortBuckets(_ buckets: Range<Int>) {
    for bucket in buckets {
      let first = bucket == 0 ? 0 : cursors[bucket - 1]
      let sorted = order[first..<cursors[bucket]].sorted { (draws[Int($0)], $0) < (draws[Int($1)], $1) }
      for (offset, index) in sorted.enumerated() { order[first + offset] = index }
    }
  }
}
