public import Kernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A fixed number of blocks of keys and values, 32 positions of all layers each, lent to sequences.
///
/// The memory is reserved at once and taken from the machine when first written.
/// `@unchecked Sendable`: the engine thread alone calls it, and lends the blocks' memory to the pool for a step.
public final class KeyValueCache: @unchecked Sendable {
  public let layout: KeyValueLayout
  public let blockCount: Int
  private let memory: UnsafeMutableRawPointer
  private var freeBlocks: [Int32]

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
    freeBlocks = (0..<Int32(blockCount)).reversed()
  }

  deinit { munmap(memory, blockCount * layout.bytesPerBlock) }

  public var freeBlockCount: Int { freeBlocks.count }
  /// The longest sequence that the whole cache could hold.
  public var positionCapacity: Int { blockCount * keyValueBlockLength }

  /// Lengthens a sequence's table until it covers `positions`; false, with nothing changed, if too few are free.
  public func extend(_ table: inout BlockTable, to positions: Int) -> Bool {
    let wanted = (positions + keyValueBlockLength - 1) / keyValueBlockLength - table.blocks.count
    guard wanted <= freeBlocks.count else { return false }
    for _ in 0..<max(wanted, 0) {
      let block = freeBlocks.removeLast()
      table.blocks.append(block)
      table.pointers.append(pointer(to: block))
    }
    return true
  }

  /// Takes back all blocks of a sequence.
  public func release(_ table: inout BlockTable) {
    freeBlocks.append(contentsOf: table.blocks)
    table = BlockTable()
  }

  private func pointer(to block: Int32) -> UnsafeMutableRawPointer { memory + Int(block) * layout.bytesPerBlock }
}

/// The cache blocks of one sequence, in the order of its positions.
///
/// `@unchecked Sendable`: the pointers lead into a cache that outlives every table of it.
public struct BlockTable: @unchecked Sendable {
  public fileprivate(set) var blocks: [Int32] = []
  fileprivate(set) var pointers: ContiguousArray<UnsafeMutableRawPointer> = []

  public init() {}

  public var capacity: Int { blocks.count * keyValueBlockLength }
}
