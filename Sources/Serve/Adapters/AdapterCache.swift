internal import Model

/// The adapters in memory under a budget: a value without threads or files.
///
/// An adapter counts for as long as anybody holds it. Taking one out of the cache therefore gives nothing back while a
/// request runs with it, and such ones are left where they are. No operation takes longer the more adapters there are,
/// but for those that are in use.
struct AdapterCache {
  private struct Loose {
    weak var adapter: Adapter?
    let bytes: Int
  }

  let budget: Int
  /// Those that stay when their users are done.
  private var kept: [String: Adapter] = [:]
  private var keptBytes = 0
  /// Those that were taken out, or never kept, while a request still held them.
  private var loose: [String: Loose] = [:]
  /// Those that are kept and may leave.
  private var order = RecencyList()
  private var pinned: Set<String> = []
  /// Bytes set aside for adapters that are being read.
  private var reservations: [String: Int] = [:]

  init(budget: Int) { self.budget = budget }

  /// Bytes of all adapters that are alive.
  var bytes: Int { loose.values.reduce(keptBytes) { $0 + ($1.adapter == nil ? 0 : $1.bytes) } }

  /// How many are alive.
  var count: Int { loose.values.reduce(kept.count) { $0 + ($1.adapter == nil ? 0 : 1) } }

  func contains(_ hash: String) -> Bool { living(hash) != nil }

  private func living(_ hash: String) -> Adapter? { kept[hash] ?? loose[hash]?.adapter }

  /// The adapter if it is alive, as the most recently used from now on.
  /// - Parameter keeping: whether it is to stay here when its users are done
  mutating func use(_ hash: String, keeping: Bool = true) -> Adapter? {
    guard let adapter = living(hash) else { return nil }
    if kept[hash] != nil {
      if !pinned.contains(hash) { order.touch(hash) }
    } else if keeping {
      keep(adapter, hash)
    }
    return adapter
  }

  /// Takes in an adapter, in the place of its reservation.
  /// - Parameter keeping: false only counts it for as long as others hold it
  mutating func insert(_ adapter: Adapter, hash: String, keeping: Bool = true) {
    reservations[hash] = nil
    if keeping { keep(adapter, hash) } else { loose[hash] = Loose(adapter: adapter, bytes: adapter.bytes) }
  }

  private mutating func keep(_ adapter: Adapter, _ hash: String) {
    loose[hash] = nil
    keptBytes += adapter.bytes - (kept[hash]?.bytes ?? 0)
    kept[hash] = adapter
    if !pinned.contains(hash) { order.touch(hash) }
  }

  /// Takes an adapter out.
  /// - Returns: the adapter, so that the caller can let go of it where that disturbs nobody
  mutating func drop(_ hash: String) -> Adapter? {
    guard let adapter = kept.removeValue(forKey: hash) else { return nil }
    keptBytes -= adapter.bytes
    order.remove(hash)
    loose = loose.filter { $0.value.adapter != nil }
    loose[hash] = Loose(adapter: adapter, bytes: adapter.bytes)
    return adapter
  }

  /// Whether these contents stay here whatever else wants in.
  mutating func pin(_ hash: String, _ isPinned: Bool) {
    if isPinned {
      pinned.insert(hash)
      order.remove(hash)
    } else if pinned.remove(hash) != nil, kept[hash] != nil {
      order.touch(hash)
    }
  }

  /// Sets bytes aside until the adapter comes or the reservation is given up.
  mutating func reserve(_ bytes: Int, for hash: String) { reservations[hash] = bytes }

  mutating func giveUpReservation(of hash: String) { reservations[hash] = nil }

  /// Removes adapters that no request holds, the least recently used first, until `bytes` more fit into the budget. Removes
  /// none if removing all of them would not be enough.
  /// - Parameter spared: hashes of those that stay
  /// - Returns: what was taken out, for the caller to let go of, and whether `bytes` fit now
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

  /// Those in use that would have to leave, beside all that are not, for `bytes` more to fit: the least recently used.
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

  /// By how many bytes the budget would be exceeded with so many more.
  private func excess(with bytes: Int) -> Int {
    self.bytes + reservations.values.reduce(0, +) + bytes - budget
  }

  private mutating func isUnused(_ hash: String) -> Bool {
    guard kept[hash] != nil else { return false }
    return isKnownUniquelyReferenced(&kept[hash]!)
  }
}
