/// Reference counts of a fixed number of blocks, and the list of the free ones. The pool does not know the blocks' memory.
struct BlockPool {
  /// [block]; 0 for a free block.
  private var referenceCounts: [Int32]
  private var free: [Int32]

  init(count: Int) {
    referenceCounts = Array(repeating: 0, count: count)
    // The lowest blocks are allocated first, so memory that is never needed is never touched.
    free = (0..<Int32(count)).reversed()
  }

  var freeCount: Int { free.count }

  func referenceCount(_ block: Int32) -> Int { Int(referenceCounts[Int(block)]) }

  /// Takes a block from the free list; its reference count is then 1. `nil` if no block is free.
  mutating func allocate() -> Int32? {
    guard let block = free.popLast() else { return nil }
    referenceCounts[Int(block)] = 1
    return block
  }

  /// Adds a reference to a block that is not free.
  /// - Returns: the references that the block then has
  @discardableResult
  mutating func retain(_ block: Int32) -> Int {
    precondition(referenceCounts[Int(block)] > 0, "a free block cannot be shared")
    referenceCounts[Int(block)] += 1
    return Int(referenceCounts[Int(block)])
  }

  /// Removes a reference; a block without references is free.
  /// - Returns: the references that are left
  @discardableResult
  mutating func release(_ block: Int32) -> Int {
    precondition(referenceCounts[Int(block)] > 0, "a free block has no reference to remove")
    referenceCounts[Int(block)] -= 1
    if referenceCounts[Int(block)] == 0 { free.append(block) }
    return Int(referenceCounts[Int(block)])
  }
}
