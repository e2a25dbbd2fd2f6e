/// Which of a fixed number of blocks are free, and how many hold each of the others. Knows nothing of their memory.
struct BlockPool {
  private var holders: [Int32]
  private var free: [Int32]

  init(count: Int) {
    holders = Array(repeating: 0, count: count)
    // The lowest come first, so that memory which was never needed is never touched.
    free = (0..<Int32(count)).reversed()
  }

  var freeCount: Int { free.count }

  func holderCount(_ block: Int32) -> Int { Int(holders[Int(block)]) }

  /// A free block, now with one holder.
  mutating func take() -> Int32? {
    guard let block = free.popLast() else { return nil }
    holders[Int(block)] = 1
    return block
  }

  /// Adds a holder to a block that has some; returns how many there are then.
  @discardableResult
  mutating func hold(_ block: Int32) -> Int {
    precondition(holders[Int(block)] > 0, "a free block cannot be shared")
    holders[Int(block)] += 1
    return Int(holders[Int(block)])
  }

  /// Takes a holder away; without any, the block is free. Returns how many are left.
  @discardableResult
  mutating func drop(_ block: Int32) -> Int {
    precondition(holders[Int(block)] > 0, "a free block has nobody to drop it")
    holders[Int(block)] -= 1
    if holders[Int(block)] == 0 { free.append(block) }
    return Int(holders[Int(block)])
  }
}
