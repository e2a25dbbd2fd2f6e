import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Model
@testable import Serve

/// The budget: who leaves the memory, and who never does.
@Suite struct AdapterMemoryTests {
  private let setting: StoreSetting
  private let one = StoreSetting.adapterBytes

  init() throws {
    setting = try StoreSetting(adapters: StoreSetting.four)
  }

  private func loaded(_ store: AdapterStore) -> [String] {
    store.listings.filter { $0.state == .loaded }.map(\.record.name)
  }

  @Test func theLeastRecentlyUsedLeavesAndComesBack() throws {
    let store = try setting.open(memory: 2 * one)
    for name in ["a", "b"] { try store.load(name: name, path: name) }
    #expect(loaded(store) == ["a", "b"] && store.memoryInUse.bytes == 2 * one)
    let hash = try store.adapter("a").contentHash
    try store.load(name: "c", path: "c")
    #expect(loaded(store) == ["a", "c"])
    _ = try store.adapter("b")
    #expect(loaded(store) == ["b", "c"])
    #expect(try store.adapter("a").contentHash == hash)
    #expect(store.memoryInUse.bytes == 2 * one)
    #expect(setting.conversionCount == 3, "what comes back is only mapped")
  }

  @Test func pinnedOnesStay() throws {
    var store: AdapterStore? = try setting.open(memory: 2 * one)
    #expect(try store?.load(name: "a", path: "a", pinned: true).isPinned == true)
    for name in ["b", "c", "d"] { try store?.load(name: name, path: name) }
    #expect(store.map(loaded) == ["a", "d"])
    #expect(try store?.load(name: "a", path: "a").isPinned == true, "nothing said, nothing changed")
    try store?.load(name: "b", path: "b", pinned: true)
    // Two pinned fill the budget: no third is pinned, and none else comes in.
    #expect(failure { try store?.load(name: "c", path: "c", pinned: true) }?.kind == .refused)
    #expect(failure { _ = try store?.adapter("c") }?.kind == .overBudget)
    store = nil
    store = try setting.open(memory: 2 * one)
    _ = try store?.scan()
    #expect(store.map(loaded) == ["a", "b"])
    try store?.load(name: "b", path: "b", pinned: false)
    #expect(try store?.adapter("c").rank == 4)
  }

  @Test func thoseInUseAreNotFreedAndCount() throws {
    let store = try setting.open(memory: 2 * one)
    for name in ["a", "b", "c"] { try store.load(name: name, path: name) }
    var held: [Adapter]? = [try store.adapter("a"), try store.adapter("b")]
    let error = failure { _ = try store.adapter("c") }
    #expect(
      error?.kind == .overBudget && error?.apiError(param: "adapter").message.contains("--adapter-memory") == true)
    // It can be registered all the same.
    #expect(try store.load(name: "d", path: "d").currentNumber == 1)
    #expect(loaded(store) == ["a", "b"])
    try store.unload(name: "a")
    #expect(store.memoryInUse.bytes == 2 * one, "unloaded, but held")
    #expect(failure { _ = try store.adapter("c") }?.kind == .overBudget)
    #expect(held?.count == 2)
    held = nil
    #expect(eventually { store.memoryInUse.bytes == one })
    #expect(try store.adapter("c").rank == 4)
  }

  @Test func oneThatNeverFitsIsRefused() throws {
    let store = try setting.open(memory: one - 1)
    let error = failure { try store.load(name: "a", path: "a") }
    #expect(error?.kind == .refused && error?.description.contains("\(one)") == true)
    #expect(store["a"] == nil)
    // The store forgets it over a restart too.
    #expect(store.listings.isEmpty)
  }

  @Test func manyWhoWaitForOneReadItOnce() throws {
    var store: AdapterStore? = try setting.open()
    for name in ["a", "b"] { try store?.load(name: name, path: name) }
    store = nil
    let gate = DispatchSemaphore(value: 0)
    let again = try setting.open(gate: gate)
    let before = setting.readCount
    let results = Mutex<[[Adapter]]>([])
    let done = DispatchGroup()
    for _ in 0..<8 {
      done.enter()
      // Returns at once, although nothing can be read yet.
      again.acquire([.init(name: "a"), .init(name: "b", version: 1)]) { result in
        results.withLock { $0.append((try? result.get()) ?? []) }
        done.leave()
      }
    }
    #expect(results.withLock { $0.isEmpty })
    for _ in 0..<2 { gate.signal() }
    done.wait()
    let all = results.withLock { $0 }
    #expect(all.count == 8 && all.allSatisfy { $0.count == 2 && $0[0] === all[0][0] && $0[1] === all[0][1] })
    #expect(setting.readCount == before + 2)
  }

  @Test func anUnloadDuringAReadLeavesNothingBehind() throws {
    var store: AdapterStore? = try setting.open()
    try store?.load(name: "a", path: "a")
    store = nil
    let gate = DispatchSemaphore(value: 0)
    let again = try setting.open(gate: gate)
    let rank = Mutex(0)
    let done = DispatchSemaphore(value: 0)
    again.acquire([.init(name: "a")]) { result in
      rank.withLock { $0 = (try? result.get().first?.rank) ?? -1 }
      done.signal()
    }
    try again.unload(name: "a")
    gate.signal()
    done.wait()
    #expect(rank.withLock { $0 } == 4, "whoever asked before the unload gets it")
    #expect(eventually { again.memoryInUse.bytes == 0 })
  }

  @Test func changesFromManyThreadsLeaveAWholeStore() throws {
    let setting = setting
    let store = try setting.open(memory: 2 * one)
    let names = ["a", "b", "c", "d"]
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      var random = TinyRandom(seed: UInt64(thread))
      for _ in 0..<60 {
        let name = names[Int.random(in: 0..<4, using: &random)]
        let source = names[Int.random(in: 0..<4, using: &random)]
        switch Int.random(in: 0..<6, using: &random) {
        case 0: _ = try? store.load(name: name, path: source)
        case 1: try? store.unload(name: name)
        case 2: try? store.remove(name: name)
        default:
          if let adapter = try? store.adapter(name), adapter.rank != 4 { Issue.record("a wrong adapter") }
        }
      }
    }
    let referenced = Set(store.listings.flatMap { $0.record.versions.map(\.contentHash) })
    #expect(setting.stored == referenced)
    #expect(store.memoryInUse.bytes <= 2 * one)
    let known = try store.database.adapters().filter { !$0.versions.isEmpty }
    #expect(known == store.listings.map(\.record))
  }
}
