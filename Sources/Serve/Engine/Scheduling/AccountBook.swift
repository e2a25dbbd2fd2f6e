/// How many rows of forward passes were computed for each key. A key is a client or a stream.
///
/// An account is active while any request of its key waits or runs. It is kept for ten minutes after that, so that the
/// rows of a client that sends one request at a time add up. A key whose account is not kept begins with the minimum of
/// the active accounts, so being idle earns no credit (the virtual token counters of Sheng et al., "Fairness in Serving
/// Large Language Models", 2024).
struct AccountBook<Key: Hashable> {
  /// Identifies an account while it is active.
  typealias Index = Int

  struct Account {
    var key: Key
    /// Rows that were computed for the key.
    var service: Int
    /// Requests that wait or run.
    var requests = 0
  }

  /// How long an account is kept after its last request.
  static var retention: Duration { .seconds(600) }
  /// Maximum inactive accounts, so that many short-lived keys take little memory.
  static var maximumKept: Int { 16_384 }

  private(set) var active: [Account?] = []
  private var indices: [Key: Index] = [:]
  private var freeIndices: [Index] = []
  private var inactive: [Key: (service: Int, since: Duration)] = [:]
  /// The number of inactive accounts at which the expired ones are removed.
  private var sweepThreshold = 256

  var activeCount: Int { indices.count }
  var inactiveCount: Int { inactive.count }

  /// Counts one more request of a key. A new account begins with the service of the key's earlier account if that is kept,
  /// or with the minimum of the active accounts that it competes with, whichever is more.
  mutating func open(_ key: Key, now: Duration, competesWith: (Key) -> Bool) -> Index {
    if let index = indices[key] {
      active[index]?.requests += 1
      return index
    }
    var minimum: Int?
    for case let account? in active where competesWith(account.key) {
      minimum = min(minimum ?? account.service, account.service)
    }
    var service = minimum ?? 0
    if let kept = inactive.removeValue(forKey: key), now - kept.since <= Self.retention {
      service = max(service, kept.service)
    }
    let account = Account(key: key, service: service, requests: 1)
    let index: Index
    if let free = freeIndices.popLast() {
      index = free
      active[index] = account
    } else {
      index = active.count
      active.append(account)
    }
    indices[key] = index
    return index
  }

  /// Counts one request less.
  /// - Returns: whether it was the last, so that `index` is no longer valid
  mutating func close(_ index: Index, now: Duration) -> Bool {
    guard let account = active[index] else { return true }
    guard account.requests == 1 else {
      active[index]?.requests -= 1
      return false
    }
    active[index] = nil
    indices[account.key] = nil
    freeIndices.append(index)
    if account.service > 0 {
      inactive[account.key] = (account.service, now)
      if inactive.count >= sweepThreshold { sweep(now) }
    }
    return true
  }

  mutating func charge(_ index: Index, rows: Int) { active[index]?.service += rows }

  func service(_ index: Index) -> Int { active[index]?.service ?? 0 }

  /// Removes the expired accounts. If more than `maximumKept` are left, also removes the half of them that became
  /// inactive first.
  private mutating func sweep(_ now: Duration) {
    inactive = inactive.filter { now - $0.value.since <= Self.retention }
    if inactive.count >= Self.maximumKept {
      let kept = inactive.sorted { $0.value.since > $1.value.since }.prefix(Self.maximumKept / 2)
      inactive = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
    }
    sweepThreshold = min(max(256, 2 * inactive.count), Self.maximumKept)
  }
}
