internal import Model

/// The adapters in memory under a budget: a value without threads or files.
///
/// An adapter counts for as long as anybody holds it. Taking one out of the cache therefore gives nothing back while a
/// request runs with it, and such ones are left where they are.
struct AdapterCache {
  private struct Slot {
    /// `nil` once it was taken out while a request still held it.
    var adapter: Adapter?
    weak var living: Adapter?
    let bytes: Int
    var lastUse: UInt64
  }

  let budget: Int
  private var slots: [String: Slot] = [:]
  private var clock: UInt64 = 0

  init(budget: Int) { self.budget = budget }

  /// Bytes of all adapters that are alive.
  var bytes: Int { slots.values.reduce(0) { $0 + ($1.living == nil ? 0 : $1.bytes) } }

  /// How many are alive.
  var count: Int { slots.values.count { $0.living != nil } }

  func contains(_ hash: String) -> Bool { slots[hash]?.living != nil }

  /// The adapter if it is alive, as the most recently used from now on.
  /// - Parameter keeping: whether it is to stay here when its users are done
  mutating func use(_ hash: String, keeping: Bool = true) -> Adapter? {
    guard let adapter = slots[hash]?.living else { return nil }
    clock += 1
    slots[hash]?.lastUse = clock
    if keeping { slots[hash]?.adapter = adapter }
    return adapter
  }

  /// - Parameter keeping: false only counts it for as long as others hold it
  mutating func insert(_ adapter: Adapter, hash: String, keeping: Bool = true) {
    clock += 1
    slots[hash] = Slot(adapter: keeping ? adapter : nil, living: adapter, bytes: adapter.bytes, lastUse: clock)
  }

  /// Takes an adapter out.
  /// - Returns: the adapter, so that the caller can let go of it where that disturbs nobody
  mutating func drop(_ hash: String) -> Adapter? {
    guard let adapter = slots[hash]?.adapter else { return nil }
    slots[hash]?.adapter = nil
    return adapter
  }

  /// Takes out least recently used adapters that nobody holds, until `bytes` more fit into the budget.
  /// - Parameter pinned: hashes of those that stay
  /// - Returns: what was taken out, for the caller to let go of, and whether `bytes` fit then
  mutating func makeRoom(for bytes: Int, pinned: Set<String>) -> (evicted: [Adapter], fits: Bool) {
    slots = slots.filter { $0.value.living != nil }
    var used = self.bytes
    if used <= budget - bytes { return ([], true) }
    var evicted: [Adapter] = []
    for hash in slots.keys.sorted(by: { lastUse($0) < lastUse($1) }) {
      if used <= budget - bytes { break }
      guard !pinned.contains(hash), isUnused(hash), let slot = slots.removeValue(forKey: hash) else { continue }
      used -= slot.bytes
      if let adapter = slot.adapter { evicted.append(adapter) }
    }
    return (evicted, used <= budget - bytes)
  }

  private func lastUse(_ hash: String) -> UInt64 { slots[hash]?.lastUse ?? 0 }

  private mutating func isUnused(_ hash: String) -> Bool {
    guard slots[hash]?.adapter != nil else { return false }
    return isKnownUniquelyReferenced(&slots[hash]!.adapter)
  }
}
