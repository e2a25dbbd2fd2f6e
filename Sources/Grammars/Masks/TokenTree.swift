/// Tokens as a tree of their bytes.
struct TokenTree: Sendable {
  /// In preorder. A last one without bytes marks the end.
  let nodes: [Node]
  /// The tokens in the order of their nodes.
  let tokens: [Int32]
  /// The largest depth of a node.
  let depth: Int

  struct Node {
    /// The byte that leads here.
    var byte: UInt8
    /// The largest number of characters of a token at this node or below, at most 255.
    var characters: UInt8
    /// 1 for one byte.
    var depth: Int32
    /// The node after the subtree.
    var next: Int32
    /// Where the node's tokens begin in `tokens`. They end where the next node's begin.
    var firstToken: Int32
  }

  /// - Parameters:
  ///   - sorted: tokens in the order of their bytes, none of which is empty
  ///   - bytes: of each token
  init(_ sorted: [Int32], bytes: [[UInt8]]) {
    var nodes: [Node] = []
    var path: [Int] = []
    var last: [UInt8] = []
    var depth = 0
    nodes.reserveCapacity(3 * sorted.count)
    func close(_ nodes: inout [Node], downTo count: Int) {
      while path.count > count {
        let node = path.removeLast()
        nodes[node].next = Int32(nodes.count)
        if let parent = path.last { nodes[parent].characters = max(nodes[parent].characters, nodes[node].characters) }
      }
    }
    for (position, token) in sorted.enumerated() {
      let text = bytes[Int(token)]
      var common = 0
      while common < last.count, common < text.count, last[common] == text[common] { common += 1 }
      close(&nodes, downTo: common)
      for byte in text[common...] {
        path.append(nodes.count)
        nodes.append(
          Node(byte: byte, characters: 0, depth: Int32(path.count), next: 0, firstToken: Int32(position)))
      }
      depth = max(depth, path.count)
      let characters = text.count { $0 & 0xC0 != 0x80 }
      nodes[path[path.count - 1]].characters = UInt8(min(255, max(1, characters)))
      last = text
    }
    close(&nodes, downTo: 0)
    nodes.append(
      Node(byte: 0, characters: 0, depth: 0, next: Int32(nodes.count + 1), firstToken: Int32(sorted.count)))
    self.nodes = nodes
    self.depth = depth
    tokens = sorted
  }

  /// The longest token that a text begins with; of tokens with equal bytes, the first.
  func longestToken(_ text: ArraySlice<UInt8>) -> (token: Int32, length: Int)? {
    var found: (Int32, Int)?
    var (node, end) = (0, nodes.count - 1)
    for (offset, byte) in text.enumerated() {
      while node < end, nodes[node].byte != byte { node = Int(nodes[node].next) }
      guard node < end else { return found }
      if nodes[node].firstToken < nodes[node + 1].firstToken {
        found = (tokens[Int(nodes[node].firstToken)], offset + 1)
      }
      (node, end) = (node + 1, Int(nodes[node].next))
    }
    return found
  }
}
