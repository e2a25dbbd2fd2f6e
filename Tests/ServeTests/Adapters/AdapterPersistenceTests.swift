import Formats
import Foundation
import TestSupport
import Testing

@testable import Model
@testable import Serve

/// What a store finds when it is opened again.
@Suite struct AdapterPersistenceTests {
  private let setting: StoreSetting

  init() throws { setting = try StoreSetting() }

  private func names(_ store: AdapterStore) -> [String] { store.served.map(\.name) }

  @Test func aScanLoadsWhatItCanAndTellsTheRest() throws {
    let model = setting.model
    for name in ["good", "bad name", ".hidden", "tiny"] { try setting.write(name) }
    try Data("{".utf8).write(to: try setting.write("broken").appending(path: "adapter_config.json"))
    let wide = try TinyModel(TinyShape(hidden: 128, layers: 1, heads: 8))
    _ = try wide.writeAdapter("wide", ranks: [.q: 4], seed: 1, in: model.adaptersFolder)
    let outside = try setting.write("outside", seed: 2, in: model.root)
    try FileManager.default.createSymbolicLink(
      at: model.adaptersFolder.appending(path: "escape"), withDestinationURL: outside)
    try Data("file".utf8).write(to: model.adaptersFolder.appending(path: "notes.txt"))
    let store = try setting.open()
    let refused = try store.scan()
    #expect(names(store) == ["good"])
    #expect(refused.map(\.name) == ["bad name", "broken", "escape", "tiny", "wide"])
    let errors = Dictionary(uniqueKeysWithValues: refused.map { ($0.name, $0.error) })
    let reasons = errors.mapValues(\.description)
    #expect(reasons["broken"]?.contains("adapter_config.json") == true)
    #expect(reasons["wide"]?.contains("lora_A.weight") == true && reasons["wide"]?.contains("shape") == true)
    #expect(reasons["escape"]?.contains("not inside") == true)
    #expect(store.listings.map(\.record.name) == ["bad name", "broken", "escape", "good", "tiny", "wide"])
    #expect(try store.listing("wide")?.state == .refused(#require(errors["wide"])))
    try FileManager.default.removeItem(at: model.adaptersFolder)
    #expect(throws: ModelError.self) { try store.scan() }
  }

  @Test func anUnchangedFolderIsNotReadAgain() throws {
    try setting.write("x")
    var store: AdapterStore? = try setting.open()
    _ = try store?.scan()
    #expect(setting.readCount == 1)
    store = nil
    store = try setting.open()
    _ = try store?.scan()
    #expect(setting.readCount == 1)
    #expect(store?.listing("x")?.state == .onDisk)
    #expect(try store?.adapter("x").rank == 4)
    #expect(store?.listing("x")?.state == .loaded)
    store = nil
    try setting.write("x", rank: 8, seed: 2)
    store = try setting.open()
    _ = try store?.scan()
    #expect(store?["x"]?.currentNumber == 2)
    #expect(try store?.adapter("x").rank == 8)
  }

  @Test func whatWasLoadedFromElsewhereOutlivesAScan() throws {
    try setting.write("x", rank: 4)
    try setting.write("other", rank: 8, seed: 2)
    var store: AdapterStore? = try setting.open()
    // x's own folder is first met by a request, and then replaced by another's contents.
    try store?.load(name: "x", path: "x")
    try store?.load(name: "x", path: "other")
    for _ in 0..<2 {
      store = nil
      store = try setting.open()
      _ = try store?.scan()
      #expect(try store?.adapter("x").rank == 8)
    }
  }

  @Test func theSourceMayChangeOrGo() throws {
    let folder = try setting.write("x")
    var store: AdapterStore? = try setting.open()
    try store?.load(name: "x", path: "x")
    let hash = try store?.adapter("x").contentHash
    try FileManager.default.removeItem(at: folder)
    store = nil
    store = try setting.open()
    #expect(try store?.scan().isEmpty == true)
    #expect(try store?.adapter("x").contentHash == hash)
  }

  @Test func anotherBaseRefusesThem() throws {
    try setting.write("x")
    var store: AdapterStore? = try setting.open()
    _ = try store?.scan()
    store = nil
    store = try setting.open(fingerprint: "base-two")
    #expect(try store?.scan().isEmpty == true)
    #expect(store?["x"] == nil && store?.served.isEmpty == true)
    #expect(failure { _ = try store?.adapter("x") }?.kind == .incompatible)
    guard case .incompatible(let reason) = store?.listing("x")?.state else { throw ModelError(reason: "state") }
    #expect(reason.contains("base-one"))
    // Told to, it takes the folder for this base: another version.
    #expect(try store?.load(name: "x", path: "x").currentNumber == 2)
    #expect(failure { _ = try store?.adapter("x", version: 1) }?.kind == .incompatible)
    #expect(try store?.adapter("x").rank == 4)
    store = nil
    store = try setting.open(fingerprint: "base-one")
    #expect(try store?.adapter("x", version: 1).rank == 4)
  }

  @Test func damagedContentsAreToldAndHealed() throws {
    try setting.write("x")
    for damage in 0..<4 {
      var store: AdapterStore? = try setting.open()
      let hash = try #require(try store?.load(name: "x", path: "x").current?.contentHash)
      store = nil
      try FileManager.default.removeItem(at: setting.preparedURL(hash))
      let weights = setting.contentsURL.appending(path: hash).appending(path: "adapter_model.safetensors")
      var data = try Data(contentsOf: weights)
      switch damage {
      case 0: data[data.count - 5] ^= 1
      case 1: data.removeLast(100)
      case 2: data = Data()
      default: break
      }
      if damage == 3 {
        try FileManager.default.removeItem(at: weights.deletingLastPathComponent())
      } else {
        try data.write(to: weights)
      }
      store = try setting.open()
      #expect(failure { _ = try store?.adapter("x") }?.kind == .damaged, "\(damage)")
      guard case .refused = store?.listing("x")?.state else { throw ModelError(reason: "state \(damage)") }
      #expect(try store?.load(name: "x", path: "x").currentNumber == 1)
      #expect(try store?.adapter("x").rank == 4)
      #expect(store?.listing("x")?.state == .loaded)
    }
  }

  @Test func aRestartConvertsNothing() throws {
    for (seed, name) in ["x", "y"].enumerated() { try setting.write(name, seed: UInt64(seed)) }
    var store: AdapterStore? = try setting.open()
    _ = try store?.scan()
    #expect(setting.conversionCount == 2)
    for _ in 0..<2 {
      store = nil
      store = try setting.open()
      _ = try store?.scan()
      for name in ["x", "y"] { #expect(try store?.adapter(name).rank == 4) }
      // The same contents under another name.
      try store?.load(name: "z", path: "x")
    }
    #expect(setting.conversionCount == 2 && setting.log.isEmpty)
  }

  @Test func aDamagedPreparedFileIsMadeAnew() throws {
    try setting.write("x")
    var store: AdapterStore? = try setting.open()
    let hash = try #require(try store?.load(name: "x", path: "x").current?.contentHash)
    let prepared = setting.preparedURL(hash)
    let intact = try Data(contentsOf: prepared)
    let damages = [
      Data(), intact.dropLast(), intact.prefix(20), Data(intact.map { $0 ^ 1 }),
      intact.prefix(900) + intact.dropFirst(901),
    ]
    for (damage, data) in damages.enumerated() {
      store = nil
      try data.write(to: prepared)
      store = try setting.open()
      #expect(try store?.adapter("x").rank == 4)
      #expect(store?.listing("x")?.state == .loaded)
      #expect(try Data(contentsOf: prepared) == intact)
      #expect(setting.conversionCount == damage + 2 && setting.log.count == damage + 1)
      #expect(setting.log.last?.contains(prepared.path) == true)
    }
    store = nil
    try FileManager.default.removeItem(at: prepared)
    store = try setting.open()
    #expect(try store?.adapter("x").rank == 4)
    #expect(try Data(contentsOf: prepared) == intact)
    #expect(setting.log.count == 5, "one that is missing is nothing unusual")
  }

  @Test func damageToTheSourceFilesIsHealedWhileThePreparedOneServes() throws {
    try setting.write("x")
    var store: AdapterStore? = try setting.open()
    let hash = try #require(try store?.load(name: "x", path: "x").current?.contentHash)
    store = nil
    let weights = setting.contentsURL.appending(path: hash).appending(path: "adapter_model.safetensors")
    let intact = try Data(contentsOf: weights)
    try intact.dropLast(100).write(to: weights)
    store = try setting.open()
    #expect(try store?.adapter("x").rank == 4)
    #expect(try store?.load(name: "x", path: "x").currentNumber == 1)
    #expect(try Data(contentsOf: weights) == intact)
    #expect(FileManager.default.fileExists(atPath: setting.preparedURL(hash).path))
  }

  @Test func whatACrashLeftGoesAndWhatNoRecordNamesStays() throws {
    try setting.write("x")
    var store: AdapterStore? = try setting.open()
    let hash = try #require(try store?.load(name: "x", path: "x").current?.contentHash)
    store = nil
    let orphan = String(repeating: "a", count: 64)
    for name in [".new-1", orphan, "of-the-user"] {
      let url = setting.contentsURL.appending(path: name)
      try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
      try Data("x".utf8).write(to: url.appending(path: "adapter_config.json"))
    }
    let contents = setting.contentsURL.appending(path: hash)
    for name in [".\(setting.preparedURL(hash).lastPathComponent).Ab12Cd", "prepared-f32-0-v0.graft", "notes"] {
      try Data("x".utf8).write(to: contents.appending(path: name))
    }
    store = try setting.open()
    #expect(setting.stored == [hash, orphan, "of-the-user"])
    #expect(
      Set(try FileManager.default.contentsOfDirectory(atPath: contents.path))
        == Set(AdapterContents.fileNames + [setting.preparedURL(hash).lastPathComponent, "notes"]))
  }
}
