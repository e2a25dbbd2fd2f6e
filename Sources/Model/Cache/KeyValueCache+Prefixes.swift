import Kernels

/// Sequences that begin alike share the blocks of their common beginning. This changes no result: the keys and values of
/// a position depend, bit for bit, on the weights and the tokens up to it alone.
extension KeyValueCache {
  /// Adds to a sequence's table the blocks of the longest beginning of `tokens` that the tree has. Whole blocks are
  /// shared. A block of which only a part fits is copied, since the sequence will write behind that part.
  /// - Parameters:
  ///   - table: empty, or a running sequence's
  ///   - computed: positions that the sequence has already; all whole blocks of them have been published
  ///   - limit: the maximum of positions to have; the count of tokens less one leaves the last token to be computed, whose
  ///     logits are wanted
  ///   - key: the weights that the sequence is computed with
  /// - Returns: the positions that the sequence then has
  public func begin(
    _ table: inout BlockTable, computed: Int = 0, tokens: [Int32], limit: Int, key: PrefixKey
  ) -> Int {
    guard var node = table.published > 0 ? table.lastNode : prefixes.root(key) else { return computed }
    let limit = min(limit, tokens.count)
    var length = table.published * keyValueBlockLength
    while length + keyValueBlockLength <= limit,
      let child = prefixes.child(of: node, tokens[length..<length + keyValueBlockLength])
    {
      share(prefixes.block(child), at: table.published, in: &table)
      node = child
      length += keyValueBlockLength
      (table.published, table.lastNode) = (table.published + 1, child)
    }
    // The sequence has further blocks of its own; a copy would repeat what it has computed in them.
    guard table.blocks.count == table.published else { return max(length, computed) }
    let rest = tokens[length..<max(min(length + keyValueBlockLength, limit), length)]
    guard !rest.isEmpty, let (nearest, shared) = prefixes.nearestChild(of: node, rest) else { return length }
    let source = prefixes.block(nearest)
    // Referenced during the copy, so that `allocateBlock` does not evict it.
    retain(source)
    defer { release(source) }
    guard let copied = allocateBlock() else { return length }
    copy(source, to: copied)
    append(copied, to: &table)
    return length + shared
  }

  /// Adds a block of the tree to a table, or replaces the table's own block at that index.
  private func share(_ block: Int32, at index: Int, in table: inout BlockTable) {
    retain(block)
    guard index < table.blocks.count else { return append(block, to: &table) }
    release(table.blocks[index])
    replace(index, with: block, in: &table)
  }

  /// How many of the blocks that `begin` would share are in use by other sequences: sharing those takes no free block.
  /// - Parameters: as for `begin`
  public func sharedBlockCount(tokens: [Int32], limit: Int, key: PrefixKey) -> Int {
    guard var node = prefixes.root(key) else { return 0 }
    var (length, count) = (0, 0)
    while length + keyValueBlockLength <= min(limit, tokens.count),
      let child = prefixes.child(of: node, tokens[length..<length + keyValueBlockLength]),
      pool.referenceCount(prefixes.block(child)) > 1
    {
      node = child
      length += keyValueBlockLength
      count += 1
    }
    return count
  }

  /// Puts a sequence's blocks into the tree, so that later sequences find them. Where the tree has a block of the same
  /// tokens already, the table shares that block and releases its own.
  /// - Parameters:
  ///   - tokens: of the sequence
  ///   - length: the positions that are computed
  ///   - partial: whether to publish the last block too if it is not full; the sequence may still write after its end
  ///   - key: the weights that the sequence was computed with
  public func publish(_ table: inout BlockTable, tokens: [Int32], length: Int, partial: Bool, key: PrefixKey) {
    while (table.published + 1) * keyValueBlockLength <= length {
      let first = table.published * keyValueBlockLength
      let node = publish(table.published, tokens[first..<first + keyValueBlockLength], &table, key)
      (table.published, table.lastNode) = (table.published + 1, node)
    }
    let first = table.published * keyValueBlockLength
    if partial, first < length { _ = publish(table.published, tokens[first..<length], &table, key) }
  }

  private func publish(
    _ index: Int, _ tokens: ArraySlice<Int32>, _ table: inout BlockTable, _ key: PrefixKey
  ) -> PrefixTree.Index {
    let block = table.blocks[index]
    let parent = index == 0 ? nil : table.lastNode
    let wasThere = prefixes.contains(block: block)
    switch prefixes.insert(tokens, block: block, below: parent, key: key) {
    case .holds(let node, let replaced):
      // A block that was published before it was full is in the tree already.
      if !wasThere { retain(block) }
      if let replaced { release(replaced) }
      return node
    case .present(let node):
      let other = prefixes.block(node)
      if tokens.count == keyValueBlockLength, other != block { share(other, at: index, in: &table) }
      return node
    }
  }
}
