import Logging
import Synchronization

/// Finds the known name that an unknown one was probably meant to be.
enum NearNames {
  private static let maximumBytes = 64

  /// The first of `known` that differs from `name` in case or hyphens alone, or else by one edit (two from eight letters
  /// on). Known names of fewer than five letters are near to nothing.
  static func nearest(_ name: String, among known: some Sequence<String>) -> String? {
    guard name.utf8.count <= maximumBytes else { return nil }
    let given = folded(name)
    return known.first { candidate in
      guard candidate.utf8.count >= 5 else { return false }
      let wanted = folded(candidate)
      return distance(given, wanted, atMost: wanted.count >= 8 ? 2 : 1)
    }
  }

  private static func folded(_ name: String) -> [UInt8] {
    name.utf8.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "_") : lowercased($0) }
  }

  /// Whether so many insertions, deletions, substitutions and swaps of neighbours make one of the other (the optimal
  /// string alignment distance).
  private static func distance(_ a: [UInt8], _ b: [UInt8], atMost limit: Int) -> Bool {
    guard abs(a.count - b.count) <= limit else { return false }
    var (before, last) = ([Int](), Array(0...b.count))
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, before[j - 1] + 1) }
        row.append(cost)
      }
      (before, last) = (last, row)
    }
    return last[b.count] <= limit
  }
}

/// Logs the unknown names that requests use, each once.
final class UnknownNameLog: Sendable {
  private static let maximumNames = 1000
  private let logger: Logger
  private let seen = Mutex<[String: Set<String>]>([:])

  init(_ logger: Logger) { self.logger = logger }

  /// - Parameter kind: "field" or "query key"
  func note(_ kind: String, _ name: String, path: String) {
    let name = name.excerpt(80)
    let (isNew, isLast) = seen.withLock { seen in
      let isNew = seen[kind, default: []].count < Self.maximumNames && seen[kind, default: []].insert(name).inserted
      return (isNew, isNew && seen[kind]?.count == Self.maximumNames)
    }
    guard isNew else { return }
    if isLast { logger.notice("no more names of this kind are told", metadata: ["kind": .string(kind)]) }
    logger.notice("unknown \(kind), ignored", metadata: ["name": .string(name), "path": .string(path)])
  }
}
