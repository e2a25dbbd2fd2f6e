/// Names in their order, which may be many: a change costs no more than a small part of them, and so does finding where
/// a page begins.
struct SortedNames {
  /// Never empty ones, each sorted, all of one before all of the next.
  private var runs: [[String]] = []
  private(set) var count = 0
  private static let longestRun = 512

  /// Adds a name unless it is there.
  mutating func insert(_ name: String) {
    guard !runs.isEmpty else {
      runs = [[name]]
      count = 1
      return
    }
    let run = self.run(of: name)
    let place = Self.place(of: name, in: runs[run])
    if place < runs[run].count, runs[run][place] == name { return }
    runs[run].insert(name, at: place)
    count += 1
    guard runs[run].count > Self.longestRun else { return }
    let half = runs[run].count / 2
    let upper = Array(runs[run][half...])
    runs[run].removeSubrange(half...)
    runs.insert(upper, at: run + 1)
  }

  mutating func remove(_ name: String) {
    guard !runs.isEmpty else { return }
    let run = self.run(of: name)
    let place = Self.place(of: name, in: runs[run])
    guard place < runs[run].count, runs[run][place] == name else { return }
    runs[run].remove(at: place)
    count -= 1
    if runs[run].isEmpty { runs.remove(at: run) }
  }

  /// - Parameter after: a name, there or not, behind which the page begins
  func page(after: String?, limit: Int) -> [String] {
    guard !runs.isEmpty else { return [] }
    var run = after.map { self.run(of: $0) } ?? 0
    var start = after.map { Self.firstPlace(in: runs[run], behind: $0) } ?? 0
    var page: [String] = []
    while run < runs.count, page.count < limit {
      page += runs[run][start...].prefix(limit - page.count)
      run += 1
      start = 0
    }
    return page
  }

  /// The run that a name is in, or belongs into: the last that begins with it or before it.
  private func run(of name: String) -> Int {
    var (low, high) = (0, runs.count)
    while low < high {
      let middle = (low + high) / 2
      if runs[middle][0] <= name { low = middle + 1 } else { high = middle }
    }
    return max(low - 1, 0)
  }

  /// The first place whose name is not before `name`.
  private static func place(of name: String, in run: [String]) -> Int {
    var (low, high) = (0, run.count)
    while low < high {
      let middle = (low + high) / 2
      if run[middle] < name { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private static func firstPlace(in run: [String], behind name: String) -> Int {
    let place = place(of: name, in: run)
    return place < run.count && run[place] == name ? place + 1 : place
  }
}
