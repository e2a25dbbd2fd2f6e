internal import Model

/// The adapters in memory, within a budget of bytes. A value without threads or files.
///
/// An adapter counts as long as anything holds it. Evicting one that a running request holds would free nothing, so
/// such adapters are not evicted. The time of an operation grows with the number of adapters in use, not with the
/// number in memory.
struct AdapterCache {
  /// An adapter that the cache does not keep.
  private struct Loose {
    weak var adapter: Adapter?
    let bytes: Int
  }

  let budget: Int
  /// Adapters that stay in memory when no request uses them.
  private var kept: [String: Adapter] = [:]
  private var keptBytes = 0
  /// Adapters that only running requests hold.
  private var loose: [String: Loose] = [:]
  /// Kept adapters that can be evicted.
  private var order = RecencyList()
  private var pinned: Set<String> = []
  /// Bytes reserved for adapters that are being read.
  private var reservations: [String: Int] = [:]

  init(budget: Int) { self.budget = budget }

  /// Bytes of all adapters in memory.
  var bytes: Int { loose.values.reduce(keptBytes) { $0 + ($1.adapter == nil ? 0 : $1.bytes) } }

  /// Number of adapters in memory.
  var count: Int { loose.values.reduce(kept.count) { $0 + ($1.adapter == nil ? 0 : 1) } }

  /// Whether an adapter is in memory.
  func contains(_ hash: String) -> Bool { living(hash) != nil }

  private func living(_ hash: String) -> Adapter? { kept[hash] ?? loose[hash]?.adapter }

  /// The adapter if it is in memory. It becomes the most recently used.
  /// - Parameter keeping: whether it stays in memory when no request uses it
  mutating func use(_ hash: String, keeping: Bool = true) -> Adapter? {
    guard let adapter = living(hash) else { return nil }
    if kept[hash] != nil {
      if !pinned.contains(hash) { order.touch(hash) }
    } else if keeping {
      keep(adapter, hash: hash)
    }
    return adapter
  }

  /// Adds an adapter and ends its reservation.
  /// - Parameter keeping: whether it stays in memory when no request uses it
  mutating func insert(_ adapter: Adapter, hash: String, keeping: Bool = true) {
    reservations[hash] = nil
    if keeping { keep(adapter, hash: hash) } else { loose[hash] = Loose(adapter: adapter, bytes: adapter.bytes) }
  }

  private mutating func keep(_ adapter: Adapter, hash: String) {
    loose[hash] = nil
    keptBytes += adapter.bytes - (kept[hash]?.bytes ?? 0)
    kept[hash] = adapter
    if !pinned.contains(hash) { order.touch(hash) }
  }

  /// Stops keeping an adapter.
  /// - Returns: the adapter, for the caller to free outside its lock
  mutating func drop(_ hash: String) -> Adapter? {
    guard let adapter = kept.removeValue(forKey: hash) else { return nil }
    keptBytes -= adapter.bytes
    order.remove(hash)
    loose = loose.filter { $0.value.adapter != nil }
    loose[hash] = Loose(adapter: adapter, bytes: adapter.bytes)
    return adapter
  }

  /// Sets whether an adapter is never evicted.
  mutating func setPinned(_ isPinned: Bool, _ hash: String) {
    if isPinned {
      pinned.insert(hash)
      order.remove(hash)
    } else if pinned.remove(hash) != nil, kept[hash] != nil {
      order.touch(hash)
    }
  }

  /// Counts bytes for an adapter that is being read, until it is inserted or the reservation is given up.
  mutating func reserve(_ bytes: Int, for hash: String) { reservations[hash] = bytes }

  /// Ends a reservation.
  mutating func giveUpReservation(of hash: String) { reservations[hash] = nil }

  /// Evicts adapters that no request holds, the least recently used first, until `bytes` more fit into the budget. Evicts
  /// none if evicting all of them would not be enough.
  /// - Parameter spared: hashes of adapters that stay
  /// - Returns: what was evicted, for the caller to free outside its lock, and whether `bytes` fit now
  mutating func makeRoom(for bytes: Int, sparing spared: Set<String> = []) -> (evicted: [Adapter], fits: Bool) {
    loose = loose.filter { $0.value.adapter != nil }
    var missing = excess(with: bytes)
    if missing <= 0 { return ([], true) }
    var leaving: [String] = []
    var next = order.next(after: nil)
    while missing > 0, let hash = next {
      next = order.next(after: hash)
      guard !spared.contains(hash), isUnused(hash), let adapter = kept[hash] else { continue }
      leaving.append(hash)
      missing -= adapter.bytes
    }
    guard missing <= 0 else { return ([], false) }
    var evicted: [Adapter] = []
    for hash in leaving {
      guard let adapter = kept.removeValue(forKey: hash) else { continue }
      keptBytes -= adapter.bytes
      order.remove(hash)
      evicted.append(adapter)
    }
    return (evicted, true)
  }

  /// The adapters in use that would have to be evicted, beside all that are not in use, for `bytes` more to fit: the least
  /// recently used ones.
  mutating func obstacles(to bytes: Int, sparing spared: Set<String>) -> Set<String> {
    var missing = excess(with: bytes)
    var obstacles: Set<String> = []
    var inUse: [String] = []
    var next = order.next(after: nil)
    while let hash = next {
      next = order.next(after: hash)
      if spared.contains(hash) { continue }
      if isUnused(hash) { missing -= kept[hash]?.bytes ?? 0 } else { inUse.append(hash) }
    }
    for hash in inUse where missing > 0 {
      obstacles.insert(hash)
      missing -= kept[hash]?.bytes ?? 0
    }
    return obstacles
  }

  /// How far the budget would be exceeded with this many more bytes.
  private func excess(with bytes: Int) -> Int {
    self.bytes + reservations.values.reduce(0, +) + bytes - budget
  }

  private mutating func isUnused(_ hash: String) -> Bool {
    guard kept[hash] != nil else { return false }
    return isKnownUniquelyReferenced(&kept[hash]!)
  }
}
