public import Formats
public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The keys and values of running sequences, and of prefixes that later sequences may share, in blocks of 32 positions of
/// all layers.
///
/// The address space of all blocks is reserved at once; the system gives memory when a block is first written to. A
/// block can be referenced by several sequences, and by the prefix tree, which finds it for later sequences
/// (KeyValueCache+Prefixes.swift). A position that several of them share is never written to again. The last block of a
/// sequence can be published before it is full; the sequence then writes only after the published positions.
///
/// `@unchecked Sendable`: only the engine's thread calls it. During a pass the thread pool reads and writes the blocks'
/// memory, and the engine's thread waits for it.
public final class KeyValueCache: @unchecked Sendable {
  /// How keys and values lie in a block.
  public let layout: KeyValueLayout
  /// Blocks, used or not.
  public let blockCount: Int
  private let memory: UnsafeMutableRawPointer
  var pool: BlockPool
  var prefixes: PrefixTree
  /// Blocks of idle prefixes that were evicted to make room, since the start.
  public internal(set) var evictions = 0

  /// - Parameters:
  ///   - config: the sizes of keys and values
  ///   - bytes: the memory for all blocks; there is at least one block
  ///   - element: the number format of keys and values
  /// - Throws: `ModelError` if the address space cannot be reserved
  public init(config: ModelConfig, bytes: Int, element: KeyValueLayout.Element) throws {
    layout = KeyValueLayout(
      headCount: config.headCount, keyValueHeadCount: config.keyValueHeadCount, headSize: config.headSize,
      layerCount: config.layerCount, element: element)
    blockCount = max(bytes / (layout.bytesPerBlock), 1)
    guard blockCount <= Int32.max else {
      throw ModelError("key-value cache", reason: "\(bytes) bytes are more than \(Int32.max) blocks")
    }
    let size = blockCount * layout.bytesPerBlock
    let map = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let map, map != MAP_FAILED else {
      throw ModelError(
        "key-value cache", reason: "\(size) bytes cannot be reserved: \(systemMessage(errno))")
    }
    memory = map
    pool = BlockPool(count: blockCount)
    prefixes = PrefixTree(blocks: blockCount)
  }

  deinit { munmap(memory, blockCount * bytesPerBlock) }

  /// Bytes of one block, all layers.
  public var bytesPerBlock: Int { layout.bytesPerBlock }
  /// Blocks that a sequence can get: those without references, and those that only the tree references.
  public var freeBlockCount: Int { pool.freeCount + prefixes.evictableCount }
  /// The free blocks that hold prefixes for later sequences.
  public var cachedBlockCount: Int { prefixes.evictableCount }
  /// Positions of the longest sequence that fits into the whole cache.
  public var positionCapacity: Int { blockCount * keyValueBlockLength }

  /// Adds blocks to a sequence's table until it covers `positions`.
  /// - Returns: false, with nothing changed, if too few blocks are free
  public func extend(_ table: inout BlockTable, to positions: Int) -> Bool {
    let wanted = (positions + keyValueBlockLength - 1) / keyValueBlockLength - table.blocks.count
    guard wanted <= freeBlockCount else { return false }
    for _ in 0..<max(wanted, 0) {
      guard let block = allocateBlock() else { return false }
      append(block, to: &table)
    }
    return true
  }

  /// Removes a sequence's references to all its blocks, and empties its table.
  public func release(_ table: inout BlockTable) {
    // From the last to the first, so that the beginning of a sequence is evicted after what continues it.
    for block in table.blocks.reversed() { release(block) }
    table = BlockTable()
  }

  // MARK: blocks

  /// A block with one reference. Evicts an idle prefix if no block is free.
  func allocateBlock() -> Int32? {
    if pool.freeCount == 0, let block = prefixes.evict() {
      pool.release(block)
      evictions += 1
    }
    return pool.allocate()
  }

  func retain(_ block: Int32) {
    if pool.retain(block) == 2 { prefixes.markUsed(block: block) }
  }

  func release(_ block: Int32) {
    if pool.release(block) == 1 { prefixes.markIdle(block: block) }
  }

  func append(_ block: Int32, to table: inout BlockTable) {
    table.blocks.append(block)
    table.pointers.append(pointer(to: block))
  }

  func replace(_ index: Int, with block: Int32, in table: inout BlockTable) {
    table.blocks[index] = block
    table.pointers[index] = pointer(to: block)
  }

  func copy(_ source: Int32, to target: Int32) {
    memcpy(pointer(to: target), pointer(to: source), bytesPerBlock)
  }

  private func pointer(to block: Int32) -> UnsafeMutableRawPointer { memory + Int(block) * bytesPerBlock }
}

/// The cache blocks of one sequence, in the order of its positions.
///
/// `@unchecked Sendable`: the pointers lead into a cache that outlives all of its tables.
public struct BlockTable: @unchecked Sendable {
  /// Indices of the blocks.
  public fileprivate(set) var blocks: [Int32] = []
  /// The blocks' memory, as the attention kernels read it.
  fileprivate(set) var pointers: ContiguousArray<UnsafeMutableRawPointer> = []
  /// How many whole blocks at the beginning are in the tree.
  var published = 0
  /// The tree's node of the last published block.
  var lastNode = PrefixTree.none

  /// A table without blocks.
  public init() {}

  /// Positions that the blocks have room for.
  public var capacity: Int { blocks.count * keyValueBlockLength }
}
