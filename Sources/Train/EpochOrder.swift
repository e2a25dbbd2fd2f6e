import Kernels

/// Which examples an optimiser step takes: epoch after epoch without a gap, each in an order of its own.
struct EpochOrder {
  enum Stream: UInt64 { case shuffle = 1, split = 2, initialization = 3, dropout = 4 }

  let count: Int
  let seed: Int
  let shuffle: Bool
  private var known: (epoch: Int, order: [Int])?

  init(count: Int, seed: Int, shuffle: Bool) {
    self.count = count
    self.seed = seed
    self.shuffle = shuffle
  }

  /// - Parameter position: examples taken since the beginning of training
  mutating func example(at position: Int) -> Int {
    guard shuffle else { return position % count }
    let epoch = position / count
    if known?.epoch != epoch {
      known = (epoch, Self.permutation(count: count, seed: seed, stream: .shuffle, epoch: epoch))
    }
    return known?.order[position % count] ?? 0
  }

  /// Indices in the order of a draw for each.
  static func permutation(count: Int, seed: Int, stream: Stream, epoch: Int = 0) -> [Int] {
    let keys = [0, 1].map { part in
      CounterKey(UInt64(bitPattern: Int64(seed)), stream.rawValue, UInt64(epoch), UInt64(part))
    }
    let draws = (0..<count).map { i in
      UInt64(keys[0][UInt32(truncatingIfNeeded: i)]) << 32 | UInt64(keys[1][UInt32(truncatingIfNeeded: i)])
    }
    return (0..<count).sorted { (draws[$0], $0) < (draws[$1], $1) }
  }
}
