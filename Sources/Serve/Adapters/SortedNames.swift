/// A sorted set of names. It consists of sorted arrays of limited length, called runs, so that changes and finding the
/// beginning of a page are quick even with many names.
struct SortedNames {
  /// No run is empty; each is sorted; all its names come before those of the next run.
  private var runs: [[String]] = []
  private(set) var count = 0
  private static let maximumRun = 512

  /// Adds a name, unless the set has it.
  mutating func insert(_ name: String) {
    guard !runs.isEmpty else {
      runs = [[name]]
      count = 1
      return
    }
    let run = self.run(of: name)
    let index = Self.index(of: name, in: runs[run])
    if index < runs[run].count, runs[run][index] == name { return }
    runs[run].insert(name, at: index)
    count += 1
    guard runs[run].count > Self.maximumRun else { return }
    let half = runs[run].count / 2
    let upper = Array(runs[run][half...])
    runs[run].removeSubrange(half...)
    runs.insert(upper, at: run + 1)
  }

  /// Removes a name, if the set has it.
  mutating func remove(_ name: String) {
    guard !runs.isEmpty else { return }
    let run = self.run(of: name)
    let index = Self.index(of: name, in: runs[run])
    guard index < runs[run].count, runs[run][index] == name else { return }
    runs[run].remove(at: index)
    count -= 1
    if runs[run].isEmpty { runs.remove(at: run) }
  }

  /// Up to `limit` names in order.
  /// - Parameter after: the page begins with the first name after this one, which need not be in the set
  func page(after: String?, limit: Int) -> [String] {
    guard !runs.isEmpty else { return [] }
    var run = after.map { self.run(of: $0) } ?? 0
    var start = after.map { Self.firstIndex(in: runs[run], behind: $0) } ?? 0
    var page: [String] = []
    while run < runs.count, page.count < limit {
      page += runs[run][start...].prefix(limit - page.count)
      run += 1
      start = 0
    }
    return page
  }

  /// The run that a name is or would be in: the last one that does not begin after it.
  private func run(of name: String) -> Int {
    var (low, high) = (0, runs.count)
    while low < high {
      let middle = (low + high) / 2
      if runs[middle][0] <= name { low = middle + 1 } else { high = middle }
    }
    return max(low - 1, 0)
  }

  /// The index of the first name that is not before `name`.
  private static func index(of name: String, in run: [String]) -> Int {
    var (low, high) = (0, run.count)
    while low < high {
      let middle = (low + high) / 2
      if run[middle] < name { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The index of the first name after `name`.
  private static func firstIndex(in run: [String], behind name: String) -> Int {
    let index = index(of: name, in: run)
    return index < run.count && run[index] == name ? index + 1 : index
  }
}
