import Kernels

/// Which examples an optimiser step takes: epoch after epoch without a gap, each in an order of its own.
///
/// An order is made once for each epoch, in pieces of bounded work (`slices`), however many examples there are.
final class EpochOrder {
  enum Stream: UInt64 { case shuffle = 1, split = 2, initialization = 3, dropout = 4 }

  let count: Int
  let seed: Int
  let shuffle: Bool
  /// The orders of the two epochs that were asked for last: a step may lie across the end of one.
  private var known: [(epoch: Int, order: [Int32])] = []

  /// Examples that one slice of work deals with.
  static let pieceSize = 1 << 14

  init(count: Int, seed: Int, shuffle: Bool) {
    self.count = count
    self.seed = seed
    self.shuffle = shuffle
  }

  /// Bytes that the orders of so many examples take, the making of one included.
  static func bytes(count: Int, shuffle: Bool) -> Int { shuffle ? count * (3 * 4 + 16) : 0 }

  /// - Parameter position: examples taken since the beginning of training
  func example(at position: Int) -> Int {
    guard shuffle else { return position % count }
    let epoch = position / count
    if let order = order(of: epoch) { return Int(order[position % count]) }
    slices(epoch: epoch).forEach { $0() }
    return order(of: epoch).map { Int($0[position % count]) } ?? 0
  }

  private func order(of epoch: Int) -> [Int32]? { known.first { $0.epoch == epoch }?.order }

  /// Work that has to be done before `example(at:)` is quick for an epoch; none if it is already.
  func slices(epoch: Int) -> [Slice] {
    guard shuffle, order(of: epoch) == nil else { return [] }
    let sorting = DrawSorting(count: count, seed: seed, stream: .shuffle, epoch: epoch)
    return sorting.slices + [
      { [self] in
        if known.count > 1 { known.removeFirst() }
        known.append((epoch, sorting.order))
      }
    ]
  }

  /// Indices in the order of a draw for each.
  static func permutation(count: Int, seed: Int, stream: Stream, epoch: Int = 0) -> [Int] {
    let sorting = DrawSorting(count: count, seed: seed, stream: stream, epoch: epoch)
    sorting.slices.forEach { $0() }
    return sorting.order.map(Int.init)
  }
}

/// Sorts indices by their draws, which are spread evenly: each goes into the bucket of its draw's highest bits, and the
/// buckets, all of about the same size, are sorted one by one.
private final class DrawSorting {
  /// The indices, sorted once all slices have run.
  private(set) var order: [Int32]
  private let count: Int
  private let keys: [CounterKey]
  private let bucketBits: Int
  private var draws: [UInt64]
  /// Where each bucket's next index goes; at first how many it has.
  private var places: [Int]

  init(count: Int, seed: Int, stream: EpochOrder.Stream, epoch: Int) {
    self.count = count
    keys = [0, 1].map { part in
      CounterKey(UInt64(bitPattern: Int64(seed)), stream.rawValue, UInt64(epoch), UInt64(part))
    }
    // About 64 indices to a bucket.
    bucketBits = max(0, Int.bitWidth - (count >> 6).leadingZeroBitCount)
    // Untouched until the slices write to it: clearing so much at once could take too long.
    order = Array(unsafeUninitializedCapacity: count) { $1 = count }
    draws = Array(unsafeUninitializedCapacity: count) { $1 = count }
    places = Array(repeating: 0, count: 1 << bucketBits)
  }

  var slices: [Slice] {
    let pieces = stride(from: 0, to: count, by: EpochOrder.pieceSize).map {
      $0..<min($0 + EpochOrder.pieceSize, count)
    }
    let buckets = stride(from: 0, to: places.count, by: EpochOrder.pieceSize >> 6).map {
      $0..<min($0 + (EpochOrder.pieceSize >> 6), places.count)
    }
    return pieces.map { piece in { [self] in draw(piece) } } + [{ [self] in findPlaces() }]
      + pieces.map { piece in { [self] in distribute(piece) } }
      + buckets.map { piece in { [self] in sort(piece) } }
  }

  private func bucket(_ draw: UInt64) -> Int { bucketBits == 0 ? 0 : Int(draw >> UInt64(64 - bucketBits)) }

  private func draw(_ piece: Range<Int>) {
    for i in piece {
      let at = UInt32(truncatingIfNeeded: i)
      draws[i] = UInt64(keys[0][at]) << 32 | UInt64(keys[1][at])
      places[bucket(draws[i])] += 1
    }
  }

  private func findPlaces() {
    var next = 0
    for bucket in places.indices { (places[bucket], next) = (next, next + places[bucket]) }
  }

  private func distribute(_ piece: Range<Int>) {
    for i in piece {
      let bucket = bucket(draws[i])
      order[places[bucket]] = Int32(i)
      places[bucket] += 1
    }
  }

  /// By now each bucket's place is where the next one begins.
  private func sort(_ buckets: Range<Int>) {
    for bucket in buckets {
      let first = bucket == 0 ? 0 : places[bucket - 1]
      let sorted = order[first..<places[bucket]].sorted { (draws[Int($0)], $0) < (draws[Int($1)], $1) }
      for (offset, index) in sorted.enumerated() { order[first + offset] = index }
    }
  }
}
