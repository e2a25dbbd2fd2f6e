/// A tokenizer's tokens as a tree of their bytes.
public struct TokenVocabulary: Sendable {
  /// How many token ids there are.
  public let count: Int
  /// The ids that end a text.
  public let endTokens: [Int]
  /// The bytes of each token; empty for tokens that are no text.
  let tokens: [[UInt8]]
  /// The nodes in preorder: the byte that leads to each, its depth (1 for one byte) and the node after its subtree.
  let nodes: [Node]
  /// The tokens in the order of their nodes.
  let nodeTokens: [Int32]

  struct Node {
    var byte: UInt8
    var depth: Int32
    var next: Int32
    /// Where the node's tokens begin in `nodeTokens`. They end where the next node's begin.
    var firstToken: Int32
  }

  /// - Parameters:
  ///   - tokens: the bytes of each token id; nil or empty for tokens that are never part of a text, such as special tokens
  ///   - endTokens: the ids that end a text
  public init(tokens: [[UInt8]?], endTokens: [Int]) {
    count = tokens.count
    self.endTokens = endTokens.filter(tokens.indices.contains)
    var bytes = tokens.map { $0 ?? [] }
    for token in self.endTokens { bytes[token] = [] }
    self.tokens = bytes
    let order = TokenVocabulary.sorted(bytes)
    var nodes: [Node] = []
    var nodeTokens: [Int32] = []
    var path: [Int] = []
    var last: [UInt8] = []
    nodes.reserveCapacity(3 * order.count)
    for token in order {
      let text = bytes[Int(token)]
      var common = 0
      while common < last.count, common < text.count, last[common] == text[common] { common += 1 }
      while path.count > common { nodes[path.removeLast()].next = Int32(nodes.count) }
      for byte in text[common...] {
        path.append(nodes.count)
        nodes.append(
          Node(byte: byte, depth: Int32(path.count), next: 0, firstToken: Int32(nodeTokens.count)))
      }
      nodeTokens.append(token)
      last = text
    }
    for node in path { nodes[node].next = Int32(nodes.count) }
    nodes.append(Node(byte: 0, depth: 0, next: Int32(nodes.count + 1), firstToken: Int32(nodeTokens.count)))
    self.nodes = nodes
    self.nodeTokens = nodeTokens
  }

  /// How many words of 32 bits a mask has.
  public var maskWords: Int { (count + 31) / 32 }

  /// The tokens that have bytes, in the order of their bytes.
  private static func sorted(_ bytes: [[UInt8]]) -> [Int32] {
    /// The first eight bytes decide most comparisons.
    let keyed = bytes.indices.filter { !bytes[$0].isEmpty }.map { token in
      var key: UInt64 = 0
      for offset in 0..<8 { key = key << 8 | (offset < bytes[token].count ? UInt64(bytes[token][offset]) : 0) }
      return (key: key, token: Int32(token))
    }
    return keyed.sorted { first, second in
      if first.key != second.key { return first.key < second.key }
      let (left, right) = (bytes[Int(first.token)], bytes[Int(second.token)])
      if left == right { return first.token < second.token }
      return left.lexicographicallyPrecedes(right)
    }.map(\.token)
  }
}
