/// Keys in the order of their last use: a doubly linked list in a dictionary, so that every change takes constant time.
struct RecencyList {
  private struct Links {
    var older: String?
    var newer: String?
  }

  private var links: [String: Links] = [:]
  private var oldest: String?
  private var newest: String?

  /// Makes a key the most recently used. Adds it if it is new.
  mutating func touch(_ key: String) {
    if newest == key { return }
    remove(key)
    links[key] = Links(older: newest, newer: nil)
    if let newest { links[newest]?.newer = key } else { oldest = key }
    newest = key
  }

  /// Removes a key, if the list has it.
  mutating func remove(_ key: String) {
    guard let own = links.removeValue(forKey: key) else { return }
    if let older = own.older { links[older]?.newer = own.newer } else { oldest = own.newer }
    if let newer = own.newer { links[newer]?.older = own.older } else { newest = own.older }
  }

  /// The key that was used next after `key`; if `key` is `nil`, the least recently used key.
  func next(after key: String?) -> String? {
    if let key { links[key]?.newer } else { oldest }
  }
}
