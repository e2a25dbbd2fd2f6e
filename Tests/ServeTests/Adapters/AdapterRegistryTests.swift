import Foundation
import TestSupport
import Testing

@testable import Model
@testable import Serve

/// What is kept beside the records, against looking through all of them.
@Suite struct AdapterRegistryTests {
  @Test func namesArePagedAsASortedArrayWouldBe() {
    var random = TinyRandom(seed: 3)
    var names = SortedNames()
    var all: Set<String> = []
    for round in 0..<6000 {
      let name = "n\(Int.random(in: 0..<3000, using: &random))"
      // It grows, then shrinks to nothing much.
      if Int.random(in: 0..<10, using: &random) < (round < 4000 ? 8 : 2) {
        names.insert(name)
        all.insert(name)
      } else {
        names.remove(name)
        all.remove(name)
      }
      guard round % 97 == 0 else { continue }
      let sorted = all.sorted()
      let cursor = "n\(Int.random(in: 0..<3000, using: &random))"
      let limit = Int.random(in: 0..<2000, using: &random)
      #expect(names.count == all.count && names.page(after: nil, limit: .max) == sorted)
      #expect(names.page(after: cursor, limit: limit) == Array(sorted.filter { $0 > cursor }.prefix(limit)))
    }
    for name in all { names.remove(name) }
    #expect(names.count == 0 && names.page(after: nil, limit: 5) == [] && names.page(after: "a", limit: 5) == [])
  }

  @Test func countsAreThoseOfALookThroughAllRecords() {
    var random = TinyRandom(seed: 5)
    func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &random) }
    let binding = AdapterStore.Binding.none
    var registry = AdapterRegistry([], binding: binding)
    var records: [String: AdapterRecord] = [:]
    func hashes(_ record: AdapterRecord) -> [String] { record.versions.map(\.contentHash) }
    for _ in 0..<2000 {
      let name = "n\(below(12))"
      let hashCount = below(4)
      let versions = (0..<hashCount).map { number in
        let hash = below(9)
        return AdapterVersion(
          number: number + 1, contentHash: "h\(hash)", base: "b", rank: 1, targets: [], memoryBytes: 10 + hash,
          fileBytes: 1, createdAt: 1, source: nil)
      }
      let record = AdapterRecord(
        name: name, versions: versions, currentNumber: versions.isEmpty ? nil : below(versions.count) + 1,
        lastNumber: versions.count, isLoaded: !versions.isEmpty && below(3) > 0, isPinned: below(2) == 0)
      let before = records[name].map { Set(hashes($0)) } ?? []
      records[name] = record
      let all = Set(records.values.flatMap(hashes))
      #expect(registry.set(record) == before.subtracting(all))
      #expect(Set(registry.hashes) == all)
      let pinned = records.values.filter { $0.isPinned && $0.isLoaded && $0.current != nil }
      for hash in (0..<9).map({ "h\($0)" }) {
        let loaded = records.values.filter(\.isLoaded)
        #expect(registry.isCurrent(hash) == loaded.contains { $0.current?.contentHash == hash })
        #expect(registry.isNameable(hash) == loaded.contains { hashes($0).contains(hash) })
        #expect(registry.isPinned(hash) == pinned.contains { $0.current?.contentHash == hash })
        let others = pinned.filter { $0.name != "n3" }.compactMap(\.current).filter { $0.contentHash != hash }
        let sum = Dictionary(others.map { ($0.contentHash, $0.memoryBytes) }) { first, _ in first }.values.reduce(0, +)
        #expect(registry.pinnedBytes(besides: "n3", hash) == sum)
      }
      #expect(
        registry.names.page(after: nil, limit: .max)
          == records.values.filter { !$0.versions.isEmpty }.map(\.name).sorted())
      #expect(
        registry.servedNames.page(after: nil, limit: .max)
          == records.values.filter { $0.isLoaded && $0.current != nil }.map(\.name).sorted())
    }
  }

  @Test func aPageIsWhatFollowsAName() throws {
    let setting = try StoreSetting()
    try setting.write("x")
    let store = try setting.open()
    for number in 0..<7 { try store.load(name: "n\(number)", path: "x") }
    try store.load(name: "ft:tiny:graft::abc:ckpt-step-3", path: "x")
    try store.unload(name: "n2")
    let all = store.served.map(\.name)
    #expect(all == ["ft:tiny:graft::abc:ckpt-step-3", "n0", "n1", "n3", "n4", "n5", "n6"])
    var (seen, after, pages): ([String], String?, Int) = ([], nil, 0)
    while true {
      let page = store.served(after: after, limit: 2) { !FineTuningNames.isCheckpoint($0) }
      seen += page.elements.map(\.name)
      after = seen.last
      pages += 1
      guard page.hasMore else { break }
    }
    #expect(seen == Array(all.dropFirst()) && pages == 3)
    #expect(store.listings(after: "n1", limit: 1).elements.map(\.record.name) == ["n2"])
    #expect(store.knows("n2") && !store.knows("n9"))
    try store.remove(name: "n2")
    #expect(store.knows("n2") && store.listing("n2") == nil)
  }

  @Test func messagesNameAdaptersFirstAndCheckpointsLast() throws {
    let setting = try StoreSetting()
    try setting.write("x")
    let store = try setting.open()
    let trained = ["", "s"].map { FineTuningNames.result(base: "tiny", suffix: $0, id: "abc") }
    let checkpoints = trained.map { FineTuningNames.checkpoint($0, step: 3) }
    let all = ["a", "ft", "ft-z", "fta", "fu"] + trained + checkpoints
    for name in ["gone"] + all.shuffled() { try store.load(name: name, path: "x") }
    try store.unload(name: "gone")
    for limit in 1...all.count + 1 {
      let some = store.someNames(limit: limit)
      #expect(some.names == Array(all.prefix(limit)))
      #expect(some.hasMore == (limit < all.count))
    }
  }

  @Test func checkpointsAreToldByTheirNames() {
    let result = FineTuningNames.result(base: "m", suffix: "s", id: "abc")
    #expect(FineTuningNames.isCheckpoint(FineTuningNames.checkpoint(result, step: 40)))
    for name in [result, "x:ckpt-step-4", "ft:a:ckpt-step-", "ft:a:ckpt-step-x", "ft:ckpt-step-4:b"] {
      #expect(!FineTuningNames.isCheckpoint(name), "\(name)")
    }
  }

  @Test func trainedNamesAreNamesThatAdaptersCanHave() {
    for part in ["5", "1e3", "-5", "..", "a/../b", "a//b", "/a", "a/", ".", "", "ü", "a b", "org/model", "nan", "base"]
    {
      let name = FineTuningNames.result(base: part, suffix: part, id: RandomName.make("", length: 8))
      #expect(AdapterName.problem(name) == nil && AdapterName.problem(FineTuningNames.checkpoint(name, step: 7)) == nil)
      for inner in name.split(separator: ":", omittingEmptySubsequences: false) {
        #expect(Double(inner) == nil, "\(name)")
      }
    }
    #expect(FineTuningNames.result(base: "org/model", suffix: "x", id: "a") == "ft:org/model:graft:x:a")
  }

  @Test func namesFromBeforeTheRulesStayUsable() throws {
    let setting = try StoreSetting()
    try setting.write("x")
    let stored = ["..", "/", "a/", "tiny", "good"]
    do {
      let folder = try setting.lockFolder()
      let database = try MetadataDatabase(folder)
      let store = try setting.open(folder, database)
      try store.load(name: "good", path: "x")
      let version = try #require(store["good"]?.current)
      for name in stored {
        try database.save(
          AdapterRecord(
            name: name, versions: [version], currentNumber: 1, lastNumber: 1, isLoaded: true, isPinned: false))
      }
    }
    let store = try setting.open()
    for name in stored {
      #expect(try store.adapter(name).rank == 4)
      #expect((store.listing(name)?.warning == nil) == (name == "good"), "\(name)")
    }
    #expect(store.listing("/")?.warning?.contains("must begin and end") == true)
    #expect(store.listing("tiny")?.warning?.contains("base") == true)
    #expect(failure { try store.load(name: "a/", path: "x") }?.kind == .badName)
    for name in stored { try store.remove(name: name) }
    #expect(store.listings.isEmpty && setting.stored.isEmpty)
  }
}
