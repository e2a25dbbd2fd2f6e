import Formats
import Kernels
import TestSupport
import Testing

@testable import Model

@Suite struct KeyValueCacheTests {
  private func cache(bytes: Int, element: KeyValueLayout.Element = .f32) throws -> KeyValueCache {
    let config = try TinyModel().source().config
    return try KeyValueCache(config: config, bytes: bytes, element: element)
  }
  /// Of the tiny model: 2 layers × 2 heads × (keys and values) × 16 × 32 positions × 4 bytes.
  private let blockBytes = 2 * 2 * 2 * 16 * 32 * 4

  @Test func theBudgetIsKept() throws {
    #expect(try cache(bytes: blockBytes * 5).blockCount == 5)
    #expect(try cache(bytes: blockBytes * 6 - 1).blockCount == 5)
    #expect(try cache(bytes: 0).blockCount == 1)
    #expect(try cache(bytes: blockBytes * 5).positionCapacity == 160)
    #expect(try cache(bytes: blockBytes * 5, element: .f16).blockCount == 10)
    // A quarter, and two scales of 4 bytes for every 32 elements.
    #expect(try cache(bytes: 0, element: .int8).bytesPerBlock == blockBytes / 4 * (32 + 2 * 4) / 32)
    for bytes in [1 << 47, 1 << 60, Int.max] { #expect(throws: ModelError.self) { try cache(bytes: bytes) } }
  }

  @Test func tablesGrowByWholeBlocksOrNotAtAll() throws {
    let cache = try cache(bytes: blockBytes * 4)
    var (a, b) = (BlockTable(), BlockTable())
    #expect(cache.extend(&a, to: 0) && a.capacity == 0)
    #expect(cache.extend(&a, to: 1) && a.capacity == 32)
    #expect(cache.extend(&a, to: 32) && a.capacity == 32)
    #expect(cache.extend(&a, to: 33) && a.capacity == 64)
    #expect(cache.extend(&a, to: 5) && a.capacity == 64)
    #expect(!cache.extend(&b, to: 65) && b.blocks.isEmpty && cache.freeBlockCount == 2)
    #expect(cache.extend(&b, to: 64) && cache.freeBlockCount == 0)
    #expect(!cache.extend(&a, to: 65))
    cache.release(&a)
    #expect(a.blocks.isEmpty && a.pointers.isEmpty && cache.freeBlockCount == 2)
    cache.release(&a)
    #expect(cache.freeBlockCount == 2)
  }

  @Test func noBlockIsEverLentTwice() throws {
    let cache = try cache(bytes: blockBytes * 40)
    var tables = [BlockTable](repeating: BlockTable(), count: 9)
    var random = TinyRandom(seed: 2)
    for _ in 0..<5000 {
      let index = Int.random(in: 0..<tables.count, using: &random)
      if Int.random(in: 0..<4, using: &random) == 0 {
        cache.release(&tables[index])
      } else {
        let (wanted, before) = (Int.random(in: 1...500, using: &random), tables[index].blocks)
        let needed = max((wanted + 31) / 32 - before.count, 0)
        let free = cache.freeBlockCount
        #expect(cache.extend(&tables[index], to: wanted) == (needed <= free))
        #expect(Array(tables[index].blocks.prefix(before.count)) == before)
      }
      let lent = tables.flatMap(\.blocks)
      #expect(Set(lent).count == lent.count && lent.allSatisfy { (0..<40).contains($0) })
      #expect(lent.count + cache.freeBlockCount == 40)
      #expect(tables.allSatisfy { $0.pointers.count == $0.blocks.count })
    }
    let pointers = tables.flatMap(\.pointers).map(UInt.init(bitPattern:)).sorted()
    #expect(zip(pointers, pointers.dropFirst()).allSatisfy { $1 - $0 >= UInt(blockBytes) })
  }
}
