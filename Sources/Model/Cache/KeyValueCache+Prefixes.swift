import Kernels

/// Sharing of what sequences have in common at their beginning. Sound because a row's keys and values depend on the
/// weights, the tokens before it and nothing else, bit for bit.
extension KeyValueCache {
  /// Gives a sequence the blocks of the longest known beginning of `tokens`, whether it is new or has begun, and returns
  /// how many positions it has then. Whole blocks are shared; one of which only a part fits is copied, since the
  /// sequence will write to it.
  /// - Parameters:
  ///   - computed: positions that the sequence has; what of them is in whole blocks has been published
  ///   - limit: most positions to have; whoever wants the last token's logits leaves it out
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
    // Further blocks of its own begin as these would.
    guard table.blocks.count == table.published else { return max(length, computed) }
    let rest = tokens[length..<max(min(length + keyValueBlockLength, limit), length)]
    guard !rest.isEmpty, let (nearest, shared) = prefixes.nearestChild(of: node, rest) else { return length }
    let source = prefixes.block(nearest)
    // Held, so that making room does not take it.
    hold(source)
    defer { drop(source) }
    guard let copied = takeBlock() else { return length }
    copy(source, to: copied)
    append(copied, to: &table)
    return length + shared
  }

  /// Makes a block of the tree's the table's too, in the place of its own if it has one there.
  private func share(_ block: Int32, at index: Int, in table: inout BlockTable) {
    hold(block)
    guard index < table.blocks.count else { return append(block, to: &table) }
    drop(table.blocks[index])
    replace(index, with: block, in: &table)
  }

  /// Of the blocks that `begin` would share, those that other sequences hold, so that sharing takes nothing.
  public func sharedBlockCount(tokens: [Int32], limit: Int, key: PrefixKey) -> Int {
    guard var node = prefixes.root(key) else { return 0 }
    var (length, count) = (0, 0)
    while length + keyValueBlockLength <= min(limit, tokens.count),
      let child = prefixes.child(of: node, tokens[length..<length + keyValueBlockLength]),
      pool.holderCount(prefixes.block(child)) > 1
    {
      node = child
      length += keyValueBlockLength
      count += 1
    }
    return count
  }

  /// Makes a sequence's blocks findable. Where the same tokens' blocks are there already, the table takes those over
  /// and gives its own back.
  /// - Parameters:
  ///   - length: the positions that are computed
  ///   - partial: publishes the last block too, though it is not full; the sequence may go on writing behind its end
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
      // As a shorter beginning, the block may have been there before.
      if !wasThere { hold(block) }
      if let replaced { drop(replaced) }
      return node
    case .present(let node):
      let other = prefixes.block(node)
      if tokens.count == keyValueBlockLength, other != block { share(other, at: index, in: &table) }
      return node
    }
  }
}
