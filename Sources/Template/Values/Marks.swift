/// Where bytes of a text came from: the index of a message, `toolSource`, `noSource`, or -2 - n for the n-th generation
/// block.
typealias Source = Int32

/// The template's own text.
let noSource: Source = -1
/// The definitions of tools.
let toolSource = Source.max

/// A range of a text's bytes, and their source.
struct Mark: Sendable {
  var start: Int
  var end: Int
  var source: Source
}

/// Marks in the order of their starts. None is empty and none overlap, so those of a range are found by binary search.
struct Marks: Sendable {
  private(set) var all: [Mark] = []

  var isEmpty: Bool { all.isEmpty }
  var count: Int { all.count }

  private func firstIndex(endingAfter position: Int) -> Int {
    var (low, high) = (0, all.count)
    while low < high {
      let middle = (low + high) / 2
      if all[middle].end > position { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// The source that all bytes of a range came from, or `noSource`. The range is not empty.
  func source(of range: Range<Int>) -> Source {
    let index = firstIndex(endingAfter: range.lowerBound)
    guard index < all.count, all[index].start <= range.lowerBound, all[index].end >= range.upperBound else {
      return noSource
    }
    return all[index].source
  }

  /// Appends a mark. If it continues the last one, that is extended instead.
  mutating func append(_ mark: Mark) {
    if let last = all.last, last.source == mark.source, last.end == mark.start {
      all[all.count - 1].end = mark.end
    } else {
      all.append(mark)
    }
  }

  /// Appends another text's marks of a range of it that is copied to `start` here.
  mutating func append(_ other: Marks, over range: Range<Int>, at start: Int) {
    var index = other.firstIndex(endingAfter: range.lowerBound)
    let shift = start - range.lowerBound
    while index < other.all.count, other.all[index].start < range.upperBound {
      let mark = other.all[index]
      append(
        Mark(
          start: max(mark.start, range.lowerBound) + shift, end: min(mark.end, range.upperBound) + shift,
          source: mark.source))
      index += 1
    }
  }

  /// Replaces all marks from `start` to `end`, which is the text's end, by one.
  mutating func cover(from start: Int, to end: Int, source: Source) {
    while let last = all.last, last.end > start {
      all.removeLast()
      if last.start < start { all.append(Mark(start: last.start, end: start, source: last.source)) }
    }
    append(Mark(start: start, end: end, source: source))
  }
}
