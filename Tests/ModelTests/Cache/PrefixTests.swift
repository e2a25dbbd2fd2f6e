import Formats
import Kernels
import TestSupport
import Testing

@testable import Model

/// The tree and the sharing of blocks, held to a list of everything that was ever published.
@Suite struct PrefixTests {
  private let length = keyValueBlockLength
  private let key = PrefixKey(.none)

  private func cache(blocks: Int) throws -> KeyValueCache {
    let config = try TinyModel().source().config
    let one = try KeyValueCache(config: config, bytes: 0, element: .f32).bytesPerBlock
    return try KeyValueCache(config: config, bytes: blocks * one, element: .f32)
  }

  /// Marks a block's memory with what its positions stand for.
  private func write(_ tokens: [Int32], _ range: Range<Int>, _ table: BlockTable) {
    for position in range {
      let block = UnsafeMutableRawPointer(table.pointers[position / length])
      // Each position's own bytes are enough here: a copy takes the whole block.
      block.storeBytes(
        of: tokens[position] &* 31 &+ Int32(position), toByteOffset: position % length * 4, as: Int32.self)
    }
  }

  private func holds(_ tokens: [Int32], _ count: Int, _ table: BlockTable) -> Bool {
    (0..<count).allSatisfy { position in
      UnsafeRawPointer(table.pointers[position / length]).load(fromByteOffset: position % length * 4, as: Int32.self)
        == tokens[position] &* 31 &+ Int32(position)
    }
  }

  private func tokens(_ count: Int, _ seed: UInt64) -> [Int32] {
    var random = TinyRandom(seed: seed)
    return (0..<count).map { _ in Int32.random(in: 0..<1000, using: &random) }
  }

  @Test func aBeginningIsFoundToTheToken() throws {
    let cache = try cache(blocks: 20)
    let first = tokens(100, 1)
    var table = BlockTable()
    #expect(cache.begin(&table, tokens: first, limit: 99, key: key) == 0)
    #expect(cache.extend(&table, to: 100))
    write(first, 0..<100, table)
    cache.publish(&table, tokens: first, length: 100, partial: true, key: key)
    for shared in [0, 1, 31, 32, 33, 64, 70, 96, 97, 99] {
      var other = Array(first.prefix(shared)) + tokens(50, 2)
      other[shared] = first[shared] + 1
      var begun = BlockTable()
      #expect(cache.begin(&begun, tokens: other, limit: other.count - 1, key: key) == shared)
      #expect(holds(other, shared, begun))
      #expect(begun.blocks.count == (shared + length - 1) / length)
      // Whole blocks are the same, the rest is the sequence's own.
      #expect(begun.blocks.prefix(shared / length) == table.blocks.prefix(shared / length))
      #expect(Set(begun.blocks.dropFirst(shared / length)).isDisjoint(with: table.blocks))
      cache.release(&begun)
    }
    // The same again, but for its last token.
    var again = BlockTable()
    #expect(cache.begin(&again, tokens: first, limit: 99, key: key) == 99)
    #expect(cache.sharedBlockCount(tokens: first, limit: 99, key: key) == 3)
    cache.release(&again)
    cache.release(&table)
    #expect(cache.freeBlockCount == 20 && cache.cachedBlockCount == 4)
    #expect(cache.sharedBlockCount(tokens: first, limit: 99, key: key) == 0)
  }

  @Test func onlyEqualWeightsShare() throws {
    let model = try TinyModel()
    let base = try model.base()
    func adapter(_ name: String, _ seed: UInt64) throws -> Adapter {
      try Adapter(peft: model.writeAdapter(name, ranks: [.q: 2], seed: seed).folder, base: base, mode: .f32)
    }
    let (a, b, renamed) = (try adapter("a", 1), try adapter("b", 2), try adapter("c", 1))
    let sets = [
      AdapterSet.none, AdapterSet([(a, 1)]), AdapterSet([(b, 1)]), AdapterSet([(a, 0.5)]), AdapterSet([(a, 0)]),
      AdapterSet([(a, -0.0)]), AdapterSet([(a, 1), (b, 1)]), AdapterSet([(a, 1), (b, 0.5)]),
      AdapterSet([(a, 1), (a, 1)]),
    ]
    let cache = try cache(blocks: 40)
    let prompt = tokens(64, 3)
    for (index, set) in sets.enumerated() {
      for (other, held) in sets.enumerated() {
        var table = BlockTable()
        #expect(cache.begin(&table, tokens: prompt, limit: 63, key: PrefixKey(held)) == (other < index ? 63 : 0))
        cache.release(&table)
      }
      var table = BlockTable()
      #expect(cache.extend(&table, to: 64))
      cache.publish(&table, tokens: prompt, length: 64, partial: true, key: PrefixKey(set))
      cache.release(&table)
    }
    // Contents count, not names; and the order of naming does not.
    #expect(PrefixKey(AdapterSet([(renamed, 1)])) == PrefixKey(AdapterSet([(a, 1)])))
    #expect(PrefixKey(AdapterSet([(b, 1), (a, 1)])) == PrefixKey(sets[6]))
    #expect(PrefixKey(.none, group: 1) != PrefixKey(.none, group: 2))
  }

  @Test func theLeastRecentlyHeldGoesFirst() throws {
    let cache = try cache(blocks: 4)
    let prompts = (0..<3).map { tokens(32, UInt64($0) + 10) }
    for prompt in prompts {
      var table = BlockTable()
      #expect(cache.extend(&table, to: 32))
      cache.publish(&table, tokens: prompt, length: 32, partial: false, key: key)
      cache.release(&table)
    }
    func found(_ index: Int) -> Int {
      var table = BlockTable()
      defer { cache.release(&table) }
      return cache.begin(&table, tokens: prompts[index] + [0], limit: 32, key: key)
    }
    #expect(found(0) == 32)
    var table = BlockTable()
    #expect(cache.extend(&table, to: 64))
    #expect(cache.evictions == 1)
    #expect([found(1), found(0), found(2)] == [0, 32, 32])
    #expect(!cache.extend(&table, to: 160))
    #expect(cache.extend(&table, to: 128) && cache.freeBlockCount == 0 && cache.evictions == 3)
    #expect([found(1), found(0), found(2)] == [0, 0, 0])
    cache.release(&table)
    #expect(cache.freeBlockCount == 4 && cache.cachedBlockCount == 0)
  }

  /// Random sequences that begin, grow, publish and end; every block is accounted for, and what is found is right.
  @Test(arguments: 1...8 as ClosedRange<UInt64>) func randomSequencesNeverSeeAnothersTokens(seed: UInt64) throws {
    struct Sequence {
      var table = BlockTable()
      var tokens: [Int32]
      var computed = 0
      var key: PrefixKey
    }
    let cache = try cache(blocks: 30)
    var random = TinyRandom(seed: seed * 7919)
    var live: [Sequence] = []
    let keys = (1...2 as ClosedRange<UInt64>).map { PrefixKey(.none, group: $0) }
    var (hits, shares) = (0, 0)
    for _ in 0..<3000 {
      switch Int.random(in: 0..<8, using: &random) {
      case 0, 1:
        // Two letters, so that beginnings often agree.
        let tokens = (0..<Int.random(in: 1...140, using: &random)).map { index in
          index % 37 == 5 ? Int32.random(in: 0..<2, using: &random) : Int32(index % 3)
        }
        let place = Int.random(in: 0..<2, using: &random)
        var sequence = Sequence(tokens: tokens.map { $0 + Int32(place * 10) }, key: keys[place])
        let limit = tokens.count - 1
        let shared = cache.sharedBlockCount(tokens: sequence.tokens, limit: limit, key: sequence.key)
        sequence.computed = cache.begin(&sequence.table, tokens: sequence.tokens, limit: limit, key: sequence.key)
        #expect(shared * length <= sequence.computed && sequence.computed <= limit)
        #expect(holds(sequence.tokens, sequence.computed, sequence.table))
        hits += sequence.computed > 0 ? 1 : 0
        shares += shared
        live.append(sequence)
      case 2, 3, 4, 5:
        guard !live.isEmpty else { continue }
        let index = Int.random(in: 0..<live.count, using: &random)
        let target = min(live[index].computed + Int.random(in: 1...40, using: &random), live[index].tokens.count)
        guard cache.extend(&live[index].table, to: target) else { continue }
        write(live[index].tokens, live[index].computed..<target, live[index].table)
        live[index].computed = target
        cache.publish(
          &live[index].table, tokens: live[index].tokens, length: target,
          partial: Int.random(in: 0..<3, using: &random) == 0, key: live[index].key)
      default:
        guard !live.isEmpty else { continue }
        var sequence = live.remove(at: Int.random(in: 0..<live.count, using: &random))
        if Bool.random(using: &random) {
          cache.publish(
            &sequence.table, tokens: sequence.tokens, length: sequence.computed, partial: true, key: sequence.key)
        }
        cache.release(&sequence.table)
      }
      for sequence in live { #expect(holds(sequence.tokens, sequence.computed, sequence.table)) }
      let held = Set(live.flatMap(\.table.blocks))
      #expect(held.count + cache.freeBlockCount == 30)
      // A block that several hold is whole, and none writes to it any more.
      for sequence in live where sequence.computed % length != 0 {
        let last = sequence.table.blocks[sequence.computed / length]
        #expect(live.filter { $0.table.blocks.contains(last) }.count == 1)
      }
    }
    #expect(hits > 100 && shares > 20 && cache.evictions > 20)
    for index in live.indices { cache.release(&live[index].table) }
    #expect(cache.freeBlockCount == 30)
    var all = BlockTable()
    #expect(cache.extend(&all, to: 30 * length))
    #expect(Set(all.blocks).count == 30 && cache.cachedBlockCount == 0)
  }
}
