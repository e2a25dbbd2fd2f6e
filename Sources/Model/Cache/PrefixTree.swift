/// Finds the cache blocks of a sequence's beginning: a radix tree for each `PrefixKey`, of nodes that stand for one
/// block of up to `keyValueBlockLength` tokens each. A node with fewer is a leaf.
///
/// No node's tokens begin those of a sibling, so that siblings in the order of their tokens are searched by halves, and
/// the longest common beginning is next to where the sought tokens would lie. Tokens are compared, never hashes.
///
/// Nodes that no sequence holds lie in the order in which they were last held. A sequence drops its blocks from the
/// last to the first, so the least recently held is always a leaf.
struct PrefixTree {
  typealias Index = Int32
  static let none: Index = -1

  private struct Node {
    var tokens: [Int32] = []
    var block: Int32 = -1
    var parent: Index = PrefixTree.none
    var children: [Index] = []
    /// Neighbours in the order of eviction.
    var older: Index = PrefixTree.none
    var newer: Index = PrefixTree.none
    var isEvictable = false
  }

  private var nodes: [Node] = []
  private var freeNodes: [Index] = []
  private var roots: [PrefixKey: Index] = [:]
  private var keys: [Index: PrefixKey] = [:]
  /// The node of each block that is in the tree.
  private var nodeOfBlock: [Index]
  private var oldest = PrefixTree.none
  private var newest = PrefixTree.none
  /// Blocks in the tree.
  private(set) var blockCount = 0
  /// Blocks in the tree that no sequence holds.
  private(set) var evictableCount = 0

  init(blocks: Int) { nodeOfBlock = Array(repeating: Self.none, count: blocks) }

  // MARK: looking up

  func root(_ key: PrefixKey) -> Index? { roots[key] }
  func contains(block: Int32) -> Bool { nodeOfBlock[Int(block)] != Self.none }
  func block(_ node: Index) -> Int32 { nodes[Int(node)].block }

  /// The child with exactly these tokens.
  func child(of node: Index, _ tokens: ArraySlice<Int32>) -> Index? {
    let place = position(in: node, tokens)
    let children = nodes[Int(node)].children
    guard place < children.count, nodes[Int(children[place])].tokens.elementsEqual(tokens) else { return nil }
    return children[place]
  }

  /// The child that shares the longest beginning with the tokens, and how many that are; `nil` if none shares any.
  func nearestChild(of node: Index, _ tokens: ArraySlice<Int32>) -> (node: Index, shared: Int)? {
    let place = position(in: node, tokens)
    let children = nodes[Int(node)].children
    var best: (node: Index, shared: Int)?
    for neighbour in [place - 1, place] where children.indices.contains(neighbour) {
      let shared = zip(nodes[Int(children[neighbour])].tokens, tokens).prefix { $0 == $1 }.count
      if shared > best?.shared ?? 0 { best = (children[neighbour], shared) }
    }
    return best
  }

  /// Where among the children the tokens are or would be.
  private func position(in node: Index, _ tokens: ArraySlice<Int32>) -> Int {
    let children = nodes[Int(node)].children
    var (low, high) = (0, children.count)
    while low < high {
      let middle = (low + high) / 2
      if nodes[Int(children[middle])].tokens.lexicographicallyPrecedes(tokens) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  // MARK: putting in

  enum Insertion: Equatable {
    /// A new node holds the block, or an old one holds it instead of `replaced`, its former block.
    case holds(Index, replaced: Int32?)
    /// A node with these tokens, or with more that begin so, was there already.
    case present(Index)
  }

  /// Puts tokens below a node, or at the root of a key. The caller holds `block`, and makes the tree its holder too.
  mutating func insert(_ tokens: ArraySlice<Int32>, block: Int32, below parent: Index?, key: PrefixKey) -> Insertion {
    let parent = parent ?? roots[key] ?? addRoot(key)
    let place = position(in: parent, tokens)
    let children = nodes[Int(parent)].children
    if place < children.count, nodes[Int(children[place])].tokens.starts(with: tokens) {
      return .present(children[place])
    }
    // A sibling that begins these tokens is a leaf which they continue; it sorts right before them.
    if place > 0, tokens.starts(with: nodes[Int(children[place - 1])].tokens) {
      let node = children[place - 1]
      let former = nodes[Int(node)].block
      nodes[Int(node)].tokens = Array(tokens)
      nodes[Int(node)].block = block
      nodeOfBlock[Int(former)] = Self.none
      nodeOfBlock[Int(block)] = node
      if former != block { unlist(node) }
      return .holds(node, replaced: former == block ? nil : former)
    }
    let node = addNode(Node(tokens: Array(tokens), block: block, parent: parent))
    nodes[Int(parent)].children.insert(node, at: place)
    nodeOfBlock[Int(block)] = node
    blockCount += 1
    return .holds(node, replaced: nil)
  }

  private mutating func addRoot(_ key: PrefixKey) -> Index {
    let root = addNode(Node())
    roots[key] = root
    keys[root] = key
    return root
  }

  private mutating func addNode(_ node: Node) -> Index {
    if let index = freeNodes.popLast() {
      nodes[Int(index)] = node
      return index
    }
    nodes.append(node)
    return Index(nodes.count - 1)
  }

  // MARK: taking out

  /// A block of the tree's has no other holder any more.
  mutating func becameIdle(block: Int32) {
    let node = nodeOfBlock[Int(block)]
    guard node != Self.none, !nodes[Int(node)].isEvictable else { return }
    nodes[Int(node)].isEvictable = true
    nodes[Int(node)].older = newest
    nodes[Int(node)].newer = Self.none
    if newest == Self.none { oldest = node } else { nodes[Int(newest)].newer = node }
    newest = node
    evictableCount += 1
  }

  /// A sequence holds a block of the tree's.
  mutating func becameHeld(block: Int32) {
    let node = nodeOfBlock[Int(block)]
    if node != Self.none { unlist(node) }
  }

  private mutating func unlist(_ node: Index) {
    let (older, newer) = (nodes[Int(node)].older, nodes[Int(node)].newer)
    guard nodes[Int(node)].isEvictable else { return }
    nodes[Int(node)].isEvictable = false
    if older == Self.none { oldest = newer } else { nodes[Int(older)].newer = newer }
    if newer == Self.none { newest = older } else { nodes[Int(newer)].older = older }
    evictableCount -= 1
  }

  /// Forgets the least recently held block; the caller drops it for the tree.
  mutating func evict() -> Int32? {
    guard oldest != Self.none else { return nil }
    let node = oldest
    precondition(nodes[Int(node)].children.isEmpty, "a block was kept longer than the one before it")
    let (block, parent) = (nodes[Int(node)].block, nodes[Int(node)].parent)
    let place = position(in: parent, nodes[Int(node)].tokens[...])
    unlist(node)
    nodes[Int(parent)].children.remove(at: place)
    remove(node)
    nodeOfBlock[Int(block)] = Self.none
    blockCount -= 1
    if nodes[Int(parent)].children.isEmpty, let key = keys.removeValue(forKey: parent) {
      roots[key] = nil
      remove(parent)
    }
    return block
  }

  private mutating func remove(_ node: Index) {
    nodes[Int(node)] = Node()
    freeNodes.append(node)
  }
}
