/// A trie over byte strings with a number for each, which finds all strings that a text begins with.
///
/// Nodes are numbered level by level, so that the children of a node have successive numbers. Searching does not hash, so
/// no choice of strings makes it slow.
struct ByteTrie: Sendable {
  /// The children of node `n` are `firstChild[n]..<firstChild[n + 1]`, ascending by `label`. Node 0 is the root.
  private var firstChild: [Int32] = []
  private var label: [UInt8] = [0]
  private var value: [Int32] = [-1]
  /// The root's child for each byte; −1 for none.
  private var rootChild = [Int32](repeating: -1, count: 256)

  /// - Parameter strings: none is empty. Of equal strings the last counts.
  init(_ strings: [(bytes: [UInt8], value: Int32)]) {
    let order = strings.indices.sorted { first, second in
      let (left, right) = (strings[first].bytes, strings[second].bytes)
      return left == right ? first < second : left.lexicographicallyPrecedes(right)
    }
    /// The strings below each node that is not yet expanded, all of which share the node's bytes.
    var ranges = [0..<order.count]
    var depths: [Int32] = [0]
    var node = 0
    while node < ranges.count {
      firstChild.append(Int32(label.count))
      let range = ranges[node]
      let depth = Int(depths[node])
      var start = range.lowerBound
      while start < range.upperBound, strings[order[start]].bytes.count == depth {
        value[node] = strings[order[start]].value
        start += 1
      }
      while start < range.upperBound {
        let byte = strings[order[start]].bytes[depth]
        var end = start + 1
        while end < range.upperBound, strings[order[end]].bytes[depth] == byte { end += 1 }
        if node == 0 { rootChild[Int(byte)] = Int32(label.count) }
        label.append(byte)
        value.append(-1)
        ranges.append(start..<end)
        depths.append(Int32(depth + 1))
        start = end
      }
      node += 1
    }
    firstChild.append(Int32(label.count))
  }

  private func child(of node: Int32, _ byte: UInt8) -> Int32? {
    if node == 0 {
      let child = rootChild[Int(byte)]
      return child < 0 ? nil : child
    }
    var low = firstChild[Int(node)]
    var high = firstChild[Int(node) + 1]
    while low < high {
      let middle = (low + high) / 2
      let found = label[Int(middle)]
      if found == byte { return middle }
      if found < byte { low = middle + 1 } else { high = middle }
    }
    return nil
  }

  /// Calls `body` with each string that the text has at `start`, the shortest first: where it ends, and its number.
  @inline(__always)
  func forEachPrefix(of text: UnsafeBufferPointer<UInt8>, from start: Int, _ body: (_ end: Int, _ value: Int32) -> Void)
  {
    var node: Int32 = 0
    var position = start
    while position < text.count, let child = child(of: node, text[position]) {
      node = child
      position += 1
      if value[Int(node)] >= 0 { body(position, value[Int(node)]) }
    }
  }

  /// Where the longest string that the text has at `start` ends; `nil` if there is none.
  func longestPrefix(of text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int? {
    var longest: Int?
    forEachPrefix(of: text, from: start) { end, _ in longest = end }
    return longest
  }
}
