import Model

/// The generation's cache blocks: allocated and shared while it runs, published for others, and released at its end.
extension Generation {
  /// Allocates blocks until the table covers this many positions.
  /// - Returns: false, with nothing changed, if too few blocks are free
  func allocateBlocks(covering positions: Int, in cache: KeyValueCache) -> Bool {
    cache.extend(&table, to: positions)
  }

  /// Shares the blocks that the cache already has of tokens which are not computed yet.
  /// - Returns: how many tokens of the prompt need not be computed because of that
  func shareBlocks(of cache: KeyValueCache) -> Int {
    guard sharesPrefix else { return 0 }
    let before = usage.cachedTokens
    shared(cache.begin(&table, computed: computed, tokens: tokens, limit: cacheLimit, key: prefixKey))
    return usage.cachedTokens - before
  }

  /// How many of the blocks that `shareBlocks` would share are held by other sequences. Sharing those takes no free
  /// block.
  func sharedBlockCount(in cache: KeyValueCache) -> Int {
    guard sharesPrefix else { return 0 }
    return cache.sharedBlockCount(tokens: tokens, limit: cacheLimit, key: prefixKey)
  }

  /// Publishes the blocks of the computed tokens, so that others can share them.
  /// - Parameter partial: whether to publish the last block too if it is not full
  func publishBlocks(in cache: KeyValueCache, partial: Bool) {
    guard sharesPrefix else { return }
    cache.publish(&table, tokens: tokens, length: computed, partial: partial, key: prefixKey)
  }

  /// Publishes and releases all blocks. The cache keeps published blocks for later sequences until it needs the memory.
  func releaseBlocks(to cache: KeyValueCache) {
    publishBlocks(in: cache, partial: true)
    cache.release(&table)
  }
}
