public import Formats
public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A fixed number of blocks of keys and values, 32 positions of all layers each, lent to sequences.
///
/// The memory is reserved at once and taken from the machine when first written. Blocks have any number of holders:
/// sequences, and the tree that finds them again (KeyValueCache+Prefixes.swift). One with several is never written.
/// `@unchecked Sendable`: the engine thread alone calls it, and lends the blocks' memory to the pool for a step.
public final class KeyValueCache: @unchecked Sendable {
  public let layout: KeyValueLayout
  public let blockCount: Int
  private let memory: UnsafeMutableRawPointer
  var pool: BlockPool
  var prefixes: PrefixTree
  /// How often a block was forgotten to make room.
  public internal(set) var evictions = 0

  /// - Parameter bytes: the budget; at least one block is made.
  /// - Throws: `ModelError` if the address space cannot be had.
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
        "key-value cache", reason: "\(size) bytes cannot be reserved: \(String(cString: strerror(errno)))")
    }
    memory = map
    pool = BlockPool(count: blockCount)
    prefixes = PrefixTree(blocks: blockCount)
  }

  deinit { munmap(memory, blockCount * bytesPerBlock) }

  /// Bytes of one block, all layers.
  public var bytesPerBlock: Int { layout.bytesPerBlock }
  /// Blocks that a sequence can have: those that nobody holds, and those that only the tree does.
  public var freeBlockCount: Int { pool.freeCount + prefixes.evictableCount }
  /// Of the free ones, those that are kept for sequences to come.
  public var cachedBlockCount: Int { prefixes.evictableCount }
  /// The longest sequence that the whole cache could hold.
  public var positionCapacity: Int { blockCount * keyValueBlockLength }

  /// Lengthens a sequence's table until it covers `positions`; false, with nothing changed, if too few are free.
  public func extend(_ table: inout BlockTable, to positions: Int) -> Bool {
    let wanted = (positions + keyValueBlockLength - 1) / keyValueBlockLength - table.blocks.count
    guard wanted <= freeBlockCount else { return false }
    for _ in 0..<max(wanted, 0) {
      guard let block = takeBlock() else { return false }
      append(block, to: &table)
    }
    return true
  }

  /// Takes back all blocks of a sequence.
  public func release(_ table: inout BlockTable) {
    // From the last to the first: what begins a sequence is kept longer than what continues it.
    for block in table.blocks.reversed() { drop(block) }
    table = BlockTable()
  }

  // MARK: blocks

  /// A block with one holder; makes room if there is none.
  func takeBlock() -> Int32? {
    if pool.freeCount == 0, let block = prefixes.evict() {
      pool.drop(block)
      evictions += 1
    }
    return pool.take()
  }

  func hold(_ block: Int32) {
    if pool.hold(block) == 2 { prefixes.becameHeld(block: block) }
  }

  func drop(_ block: Int32) {
    if pool.drop(block) == 1 { prefixes.becameIdle(block: block) }
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
/// `@unchecked Sendable`: the pointers lead into a cache that outlives every table of it.
public struct BlockTable: @unchecked Sendable {
  public fileprivate(set) var blocks: [Int32] = []
  fileprivate(set) var pointers: ContiguousArray<UnsafeMutableRawPointer> = []
  /// The whole blocks at the beginning that are in the tree, and the node of the last.
  var published = 0
  var lastNode = PrefixTree.none

  public init() {}

  public var capacity: Int { blocks.count * keyValueBlockLength }
}
