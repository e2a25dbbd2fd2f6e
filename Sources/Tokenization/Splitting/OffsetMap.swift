/// Offsets in a text that move to where they are in what the text becomes.
struct OffsetMap {
  /// In bytes, ascending.
  private(set) var offsets: [Int]
  private var next = 0

  init(_ offsets: [Int]) { self.offsets = offsets }

  /// Moves the offsets up to `position` of the text, which were not moved before, to `position` of the result.
  mutating func move(upTo position: Int, to result: Int) {
    while next < offsets.count, offsets[next] <= position {
      offsets[next] = result
      next += 1
    }
  }

  /// Moves offsets behind the end of the result to it.
  mutating func limit(to count: Int) { offsets = offsets.map { min($0, count) } }
}
