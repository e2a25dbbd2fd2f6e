import Model

/// Cache blocks: allocated and shared while the generation runs, published for others, and released at its end.
extension Generation {
  /// Allocates blocks until the table covers so many positions.
  /// - Returns: false, with nothing changed, where too few are free
  func allocateBlocks(covering positions: Int, in cache: KeyValueCache) -> Bool {
    cache.extend(&table, to: positions)
  }

  /// Shares the blocks that the cache has of tokens which are not computed yet.
  /// - Returns: how many tokens of the prompt that saves
  func shareBlocks(of cache: KeyValueCache) -> Int {
    guard sharesPrefix else { return 0 }
    let before = usage.cachedTokens
    shared(cache.begin(&table, computed: computed, tokens: tokens, limit: cacheLimit, key: prefixKey))
    return usage.cachedTokens - before
  }

  /// Of the blocks that `shareBlocks` would share, how many other sequences hold, so that sharing allocates nothing.
  func sharedBlockCount(in cache: KeyValueCache) -> Int {
    guard sharesPrefix else { return 0 }
    return cache.sharedBlockCount(tokens: tokens, limit: cacheLimit, key: prefixKey)
  }

  /// Lets others share the blocks of what is computed.
  /// - Parameter partial: with the last block, though it is not full
  func publishBlocks(in cache: KeyValueCache, partial: Bool) {
    guard sharesPrefix else { return }
    cache.publish(&table, tokens: tokens, length: computed, partial: partial, key: prefixKey)
  }

  /// Gives all blocks back. The cache keeps them, free to be used for other sequences, until it needs the memory.
  func releaseBlocks(to cache: KeyValueCache) {
    publishBlocks(in: cache, partial: true)
    cache.release(&table)
  }
}
