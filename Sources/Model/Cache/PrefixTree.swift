/// Finds the cache blocks of a sequence's beginning: a radix tree for each `PrefixKey`. A node stands for one block, with
/// up to `keyValueBlockLength` tokens; a node with fewer tokens is a leaf.
///
/// The tokens of a node are never the beginning of a sibling's. So children can be sorted by their tokens and found by
/// binary search, and the child with the longest common beginning is next to where the sought tokens would stand. Tokens
/// are compared, never hashes.
///
/// Nodes whose block no sequence uses are in a list, in the order in which they were last used. A sequence releases its
/// blocks from the last to the first, so the least recently used node is always a leaf and can be evicted.
struct PrefixTree {
  /// An index into `nodes`.
  typealias Index = Int32
  static let none: Index = -1

  private struct Node {
    var tokens: [Int32] = []
    var block: Int32 = -1
    var parent: Index = PrefixTree.none
    var children: [Index] = []
    /// Neighbours in the list of evictable nodes.
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
  /// Blocks in the tree that no sequence uses.
  private(set) var evictableCount = 0

  init(blocks: Int) { nodeOfBlock = Array(repeating: Self.none, count: blocks) }

  // MARK: looking up

  func root(_ key: PrefixKey) -> Index? { roots[key] }
  func contains(block: Int32) -> Bool { nodeOfBlock[Int(block)] != Self.none }
  func block(_ node: Index) -> Int32 { nodes[Int(node)].block }

  /// The child with exactly these tokens.
  func child(of node: Index, _ tokens: ArraySlice<Int32>) -> Index? {
    let index = position(in: node, tokens)
    let children = nodes[Int(node)].children
    guard index < children.count, nodes[Int(children[index])].tokens.elementsEqual(tokens) else { return nil }
    return children[index]
  }

  /// The child that shares the longest beginning with the tokens, and how many that are; `nil` if none shares any.
  func nearestChild(of node: Index, _ tokens: ArraySlice<Int32>) -> (node: Index, shared: Int)? {
    let index = position(in: node, tokens)
    let children = nodes[Int(node)].children
    var best: (node: Index, shared: Int)?
    for neighbour in [index - 1, index] where children.indices.contains(neighbour) {
      let shared = zip(nodes[Int(children[neighbour])].tokens, tokens).prefix { $0 == $1 }.count
      if shared > best?.shared ?? 0 { best = (children[neighbour], shared) }
    }
    return best
  }

  /// The index among a node's sorted children where the tokens are or would be inserted.
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

  // MARK: insertion

  enum Insertion: Equatable {
    /// A node has the block: a new node, or one that had `replaced` before.
    case holds(Index, replaced: Int32?)
    /// There was already a node with these tokens, or with more tokens that begin with them.
    case present(Index)
  }

  /// Inserts the tokens of a block below a node, or below a key's root.
  ///
  /// Changes no reference count: where `holds` is returned, the caller retains `block` for the tree and releases
  /// `replaced`.
  /// - Parameter parent: `nil` for the root of `key`
  mutating func insert(_ tokens: ArraySlice<Int32>, block: Int32, below parent: Index?, key: PrefixKey) -> Insertion {
    let parent = parent ?? roots[key] ?? addRoot(key)
    let index = position(in: parent, tokens)
    let children = nodes[Int(parent)].children
    if index < children.count, nodes[Int(children[index])].tokens.starts(with: tokens) {
      return .present(children[index])
    }
    // A sibling whose tokens begin these is a leaf, and sorts right before them: it gets the longer block.
    if index > 0, tokens.starts(with: nodes[Int(children[index - 1])].tokens) {
      let node = children[index - 1]
      let former = nodes[Int(node)].block
      nodes[Int(node)].tokens = Array(tokens)
      nodes[Int(node)].block = block
      nodeOfBlock[Int(former)] = Self.none
      nodeOfBlock[Int(block)] = node
      if former != block { removeFromEvictable(node) }
      return .holds(node, replaced: former == block ? nil : former)
    }
    let node = addNode(Node(tokens: Array(tokens), block: block, parent: parent))
    nodes[Int(parent)].children.insert(node, at: index)
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

  // MARK: eviction

  /// No sequence uses the block any more. A block that is not in the tree is ignored.
  mutating func markIdle(block: Int32) {
    let node = nodeOfBlock[Int(block)]
    guard node != Self.none, !nodes[Int(node)].isEvictable else { return }
    nodes[Int(node)].isEvictable = true
    nodes[Int(node)].older = newest
    nodes[Int(node)].newer = Self.none
    if newest == Self.none { oldest = node } else { nodes[Int(newest)].newer = node }
    newest = node
    evictableCount += 1
  }

  /// A sequence uses the block again. A block that is not in the tree is ignored.
  mutating func markUsed(block: Int32) {
    let node = nodeOfBlock[Int(block)]
    if node != Self.none { removeFromEvictable(node) }
  }

  private mutating func removeFromEvictable(_ node: Index) {
    let (older, newer) = (nodes[Int(node)].older, nodes[Int(node)].newer)
    guard nodes[Int(node)].isEvictable else { return }
    nodes[Int(node)].isEvictable = false
    if older == Self.none { oldest = newer } else { nodes[Int(older)].newer = newer }
    if newer == Self.none { newest = older } else { nodes[Int(newer)].older = older }
    evictableCount -= 1
  }

  /// Removes the least recently used of the blocks that no sequence uses; the caller releases it for the tree.
  /// - Returns: `nil` if sequences use all blocks of the tree
  mutating func evict() -> Int32? {
    guard oldest != Self.none else { return nil }
    let node = oldest
    precondition(nodes[Int(node)].children.isEmpty, "a block was evicted before one that continues it")
    let (block, parent) = (nodes[Int(node)].block, nodes[Int(node)].parent)
    let index = position(in: parent, nodes[Int(node)].tokens[...])
    removeFromEvictable(node)
    nodes[Int(parent)].children.remove(at: index)
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
