extension String {
  /// The maximum of combining marks in a row in the texts of models' files. Unicode's stream-safe texts have 30 (UAX 15,
  /// section 13).
  package static let longestRunOfMarks = 256

  /// Whether more combining marks than `limit` follow each other. To compare or hash a string, Swift sorts every such run,
  /// in a time that grows with the square of its length.
  package func hasMarks(moreThan limit: Int) -> Bool {
    // A mark has two bytes or more, of which the first is at least 0xCC.
    guard utf8.count / 2 > limit, utf8.contains(where: { $0 >= 0xCC }) else { return false }
    var run = 0
    for scalar in unicodeScalars {
      let isMark = scalar.value >= 0x300 && scalar.properties.canonicalCombiningClass != .notReordered
      run = isMark ? run + 1 : 0
      if run > limit { return true }
    }
    return false
  }
}
