/// The merge rules: for a pair of adjacent token ids its rank, where lower ranks merge first, and the id that replaces it.
struct MergeTable: Sendable {
  struct Rule: Sendable {
    let rank: UInt32
    let id: Int32
  }

  /// An open-addressing hash table, at most half full; `vacant` marks a free slot, since ids are not negative.
  private var keys: [UInt64]
  private var rules: [Rule]
  private static let vacant = UInt64.max

  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    keys = Array(repeating: Self.vacant, count: size)
    rules = Array(repeating: Rule(rank: 0, id: 0), count: size)
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  private func slot(of key: UInt64) -> Int {
    let mask = keys.count - 1
    var slot = Int(truncatingIfNeeded: TableHash.key(key)) & mask
    while keys[slot] != key && keys[slot] != Self.vacant { slot = (slot + 1) & mask }
    return slot
  }

  /// Adds a rule, or replaces the one of the same pair. There may be at most `capacity` rules.
  mutating func insert(left: Int32, right: Int32, rule: Rule) {
    let key = Self.key(left, right)
    let slot = slot(of: key)
    keys[slot] = key
    rules[slot] = rule
  }

  func rule(left: Int32, right: Int32) -> Rule? {
    let key = Self.key(left, right)
    let slot = slot(of: key)
    return keys[slot] == key ? rules[slot] : nil
  }
}
