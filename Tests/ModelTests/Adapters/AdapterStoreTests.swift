import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

@Suite struct AdapterStoreTests {
  private let model: TinyModel
  private let store: AdapterStore

  init() throws {
    model = try TinyModel(TinyShape(layers: 1))
    store = AdapterStore(folder: model.adaptersFolder, base: try model.base(), mode: .f32)
  }

  private func failure(_ body: () throws -> Void) -> AdapterStore.Failure? {
    do {
      try body()
      return nil
    } catch { return error as? AdapterStore.Failure }
  }

  @Test func namesAreThoseThatARequestCanSay() {
    let longest = String(repeating: "n", count: 256)
    for name in ["a", "A-z_9.x", "org/model", "ft:base:mine", "x:y", "1", "a:", "a:b.5c", longest] {
      #expect(AdapterStore.isValid(name: name), "\(name)")
    }
    for name in [
      "", "base", "a b", "a,b", "a@1", "é", "a\0", "a:1", "a:0.5", "a:-1e3", "a:.5", "a?b", "a\n",
      longest + "n",
    ] { #expect(!AdapterStore.isValid(name: name), "\(name)") }
    #expect(failure { try store.load(name: "a:1", path: "x") }?.kind == .badName)
  }

  @Test func loadsWithRankTargetsAndContents() throws {
    _ = try model.writeAdapter("one", ranks: [.q: 3, .down: 9], seed: 1)
    let record = try store.load(name: "org/one", path: "one")
    #expect(record.adapter.rank == 9 && record.adapter.targets == [.q, .down])
    #expect(record.name == "org/one" && record.source.lastPathComponent == "one")
    #expect(store["org/one"]?.adapter === record.adapter && store["one"] == nil)
    // Rows of A, then of B, are padded to 16.
    #expect(record.adapter.bytes == 4 * (16 * 96 + 96 * 3 + 16 * 144 + 96 * 9))
    let absolute = try store.load(name: "two", path: model.adaptersFolder.appending(path: "one").path)
    #expect(absolute.adapter.contentHash == record.adapter.contentHash)
    #expect(store.all.map(\.name) == ["org/one", "two"])
  }

  @Test func anotherContentIsAnotherHash() throws {
    var hashes: Set<String> = []
    for (index, alpha) in [16.0, 8].enumerated() {
      for seed in 1...2 {
        let name = "h\(index)\(seed)"
        _ = try model.writeAdapter(name, ranks: [.v: 4], alpha: alpha, seed: UInt64(seed))
        hashes.insert(try store.load(name: name, path: name).adapter.contentHash)
      }
    }
    #expect(hashes.count == 4)
  }

  @Test func pathsOutsideTheFolderAreRefused() throws {
    let outside = try model.writeAdapter("outside", ranks: [.q: 4], seed: 2, in: model.root)
    _ = try model.writeAdapter("inside", ranks: [.q: 4], seed: 2)
    // A neighbour whose path begins like the folder's.
    let neighbour = model.root.appending(path: "adapters-more")
    _ = try model.writeAdapter("n", ranks: [.q: 4], seed: 2, in: neighbour)
    let manager = FileManager.default
    func link(_ name: String, to path: String) throws {
      try manager.createSymbolicLink(atPath: model.adaptersFolder.appending(path: name).path, withDestinationPath: path)
    }
    try link("absolute", to: outside.folder.path)
    try link("relative", to: "../outside")
    try link("up", to: "..")
    try link("chain", to: "relative")
    try link("loop", to: "loop")
    try link("good", to: "inside")
    for path in [
      "../outside", "../adapters-more/n", outside.folder.path, "absolute", "relative", "chain", "up/outside",
      "inside/../../outside", "", ".", "..", "/", "/etc", "./../outside", "inside/../up/outside",
      neighbour.appending(path: "n").path,
    ] {
      #expect(failure { try store.load(name: "x", path: path) }?.kind == .outsideFolder, "\(path)")
    }
    for path in ["loop", "missing", "inside\0", "a\0/../../outside"] {
      #expect(failure { try store.load(name: "x", path: path) } != nil, "\(path)")
    }
    #expect(store.all.isEmpty)
    try store.load(name: "x", path: "good")
    try store.load(name: "y", path: "up/adapters/inside")
    let homeless = AdapterStore(folder: nil, base: try model.base(), mode: .f32)
    #expect(failure { try homeless.load(name: "x", path: "a") }?.kind == .noFolder)
  }

  @Test func replacingKeepsTheOldOneForItsHolders() throws {
    _ = try model.writeAdapter("one", ranks: [.q: 4], seed: 1)
    _ = try model.writeAdapter("two", ranks: [.q: 8], seed: 2)
    var held: AdapterSet? = AdapterSet([(try store.load(name: "x", path: "one").adapter, 1)])
    weak let old = held?.terms[0].adapter
    try store.load(name: "x", path: "two")
    #expect(store["x"]?.adapter.rank == 8)
    #expect(old?.rank == 4 && held?.terms[0].adapter.rank == 4)
    held = nil
    #expect(old == nil)
    // One that is refused leaves what was there.
    #expect(failure { try store.load(name: "x", path: "missing") }?.kind == .refused)
    #expect(store["x"]?.adapter.rank == 8)
  }

  @Test func unloadingTakesTheNameAway() throws {
    _ = try model.writeAdapter("one", ranks: [.q: 4], seed: 1)
    try store.load(name: "x", path: "one")
    try store.unload(name: "x")
    #expect(store["x"] == nil && store.all.isEmpty)
    #expect(failure { try store.unload(name: "x") }?.kind == .unknownName)
  }

  @Test func aScanLoadsWhatItCanAndTellsTheRest() throws {
    _ = try model.writeAdapter("good", ranks: [.q: 4], seed: 1)
    _ = try model.writeAdapter("bad name", ranks: [.q: 4], seed: 1)
    _ = try model.writeAdapter(".hidden", ranks: [.q: 4], seed: 1)
    let broken = try model.writeAdapter("broken", ranks: [.q: 4], seed: 1).folder
    try Data("{".utf8).write(to: broken.appending(path: "adapter_config.json"))
    let wide = try TinyModel(TinyShape(hidden: 128, layers: 1, heads: 8))
    _ = try wide.writeAdapter("wide", ranks: [.q: 4], seed: 1, in: model.adaptersFolder)
    let outside = try model.writeAdapter("outside", ranks: [.q: 4], seed: 2, in: model.root)
    try FileManager.default.createSymbolicLink(
      at: model.adaptersFolder.appending(path: "escape"), withDestinationURL: outside.folder)
    try Data("file".utf8).write(to: model.adaptersFolder.appending(path: "notes.txt"))
    let refused = try store.scan()
    #expect(store.all.map(\.name) == ["good"])
    #expect(refused.map(\.name) == ["bad name", "broken", "escape", "wide"])
    let reasons = Dictionary(uniqueKeysWithValues: refused.map { ($0.name, $0.reason) })
    #expect(reasons["broken"]?.contains("adapter_config.json") == true)
    #expect(reasons["wide"]?.contains("lora_A.weight") == true && reasons["wide"]?.contains("shape") == true)
    #expect(reasons["escape"]?.contains("not inside") == true)
    let nowhere = AdapterStore(folder: model.root.appending(path: "none"), base: try model.base(), mode: .f32)
    #expect(throws: ModelError.self) { try nowhere.scan() }
  }

  @Test func aTensorThatIsNoNumberIsNamed() throws {
    let folder = try model.writeAdapter("nan", ranks: [.q: 4], seed: 1).folder
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj."
    var a = [Float](repeating: 0, count: 4 * 96)
    a[7] = .infinity
    try SafetensorsWriter.write(
      [
        (prefix + "lora_A.weight", [4, 96], a),
        (prefix + "lora_B.weight", [96, 4], [Float](repeating: 0, count: 96 * 4)),
      ], to: folder.appending(path: "adapter_model.safetensors"))
    let description = failure { try store.load(name: "nan", path: "nan") }?.description ?? ""
    #expect(description.contains("q_proj.lora_A.weight") && description.contains("finite"), "\(description)")
  }
}
