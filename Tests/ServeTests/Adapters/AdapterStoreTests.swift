import Formats
import Foundation
import TestSupport
import Testing

@testable import Model
@testable import Serve

@Suite struct AdapterStoreTests {
  private let setting: StoreSetting
  private var manager: FileManager { .default }

  init() throws { setting = try StoreSetting() }

  @Test func namesAreThoseThatARequestCanSay() throws {
    let longest = String(repeating: "n", count: 256)
    for name in ["a", "A-z_9.x", "org/model", "ft:base::mine", "x:y", "1", "a:b.5c", "a/b.c/..d", "a:1e99x", longest] {
      #expect(AdapterName.isValid(name), "\(name)")
    }
    for name in [
      "", "base", "a b", "a,b", "a@1", "é", "a\0", "a:1", "a:0.5", "a:-1e3", "a:.5", "a?b", "a\n",
      longest + "n", "a:", ":a", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "-a", "a-", "_",
      "a.", ".a", "b:a:7",
    ] { #expect(!AdapterName.isValid(name), "\(name)") }
    let store = try setting.open()
    for name in ["a:1", "tiny", "..", "/", "a/"] {
      #expect(failure { try store.load(name: name, path: "x") }?.kind == .badName)
    }
  }

  @Test func loadsWithRankTargetsAndContents() throws {
    _ = try setting.model.writeAdapter("one", ranks: [.q: 3, .down: 9], seed: 1)
    let store = try setting.open()
    let record = try store.load(name: "org/one", path: "one")
    let version = try #require(record.current)
    let adapter = try store.adapter("org/one")
    #expect(version.rank == 9 && version.targets == ["q_proj", "down_proj"] && version.number == 1)
    #expect(version.memoryBytes == adapter.bytes && version.base == "base-one")
    #expect(version.source?.hasSuffix("/one") == true && setting.stored == [version.contentHash])
    #expect(store["org/one"] == record && store["one"] == nil)
    let absolute = try store.load(name: "two", path: setting.model.adaptersFolder.appending(path: "one").path)
    #expect(absolute.current?.contentHash == version.contentHash)
    #expect(try store.adapter("two") === adapter, "the same contents are in memory once")
    #expect(store.served.map(\.name) == ["org/one", "two"])
  }

  @Test func whatIsNoPEFTAdapterIsNamedWhenItIsRegistered() throws {
    let folder = setting.model.adaptersFolder
    func put(_ name: String, _ files: [String: String]) throws {
      let url = try setting.write(name)
      for (file, text) in files { try Data(text.utf8).write(to: url.appending(path: file)) }
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    try put("pointer", ["adapter_model.safetensors": pointer])
    try put(
      "mlx", ["adapter_config.json": #"{"fine_tune_type": "lora", "num_layers": 16}"#, "adapters.safetensors": ""])
    try FileManager.default.removeItem(at: folder.appending(path: "mlx/adapter_model.safetensors"))
    try FileManager.default.createDirectory(at: folder.appending(path: "gguf"), withIntermediateDirectories: true)
    try Data("GGUF".utf8).write(to: folder.appending(path: "gguf/lora.gguf"))
    let store = try setting.open()
    let reasons = Dictionary(uniqueKeysWithValues: try store.scan().map { ($0.name, $0.error.description) })
    #expect(reasons["pointer"]?.contains("adapter_model.safetensors: is a Git LFS pointer") == true)
    #expect(reasons["mlx"]?.contains("adapter_config.json: lora_parameters: ") == true)
    #expect(reasons["gguf"]?.contains("lora.gguf: not a GGUF file") == true)
    let file = failure { try store.load(name: "x", path: "gguf/lora.gguf") }
    #expect(file?.kind == .refused && file?.description.contains("lora.gguf: not a GGUF file") == true)
  }

  @Test func weightsThatAreNoNumbersAreRefusedWhenTheyAreRegistered() throws {
    let url = try setting.write("bad").appending(path: "adapter_model.safetensors")
    let read = try SafetensorsFile(url)
    let tensors = try read.tensors.values.map { tensor in
      var values = try read.floats(tensor.name)
      if tensor.name.contains("lora_B") { values[5] = .infinity }
      return (name: tensor.name, shape: tensor.shape, values: values)
    }
    try SafetensorsWriter.write(tensors, to: url)
    let error = failure { try self.setting.open().load(name: "bad", path: "bad") }
    #expect(error?.kind == .refused && error?.description.contains("not finite") == true)
  }

  @Test func versionsCountUpAndStay() throws {
    for seed in 1...3 { try setting.write("s\(seed)", rank: 2 + seed, seed: UInt64(seed)) }
    var store: AdapterStore? = try setting.open()
    #expect(try store?.load(name: "x", path: "s1").currentNumber == 1)
    #expect(try store?.load(name: "x", path: "s1").currentNumber == 1, "identical contents")
    #expect(try store?.load(name: "x", path: "s2").currentNumber == 2)
    #expect(try store?.load(name: "x", path: "s3").currentNumber == 3)
    #expect(try store?.load(name: "x", path: "s1").currentNumber == 1, "contents that were there before")
    store = nil
    let again = try setting.open()
    #expect(again["x"]?.currentNumber == 1 && again["x"]?.lastNumber == 3)
    for number in 1...3 { #expect(try again.adapter("x", version: number).rank == 2 + number) }
    #expect(try again.adapter("x").rank == 3)
    #expect(failure { _ = try again.adapter("x", version: 4) }?.kind == .unknownName)
    // A deleted name's numbers are not given again.
    try again.remove(name: "x")
    #expect(setting.stored.isEmpty && again["x"] == nil)
    #expect(failure { try again.remove(name: "x") }?.kind == .unknownName)
    #expect(try again.load(name: "x", path: "s1").currentNumber == 4)
  }

  @Test func oldVersionsGoInTime() throws {
    for seed in 1...5 { try setting.write("s\(seed)", rank: seed, seed: UInt64(seed)) }
    let store = try setting.open(versionsKept: 2)
    for seed in 1...4 { try store.load(name: "x", path: "s\(seed)") }
    #expect(store["x"]?.versions.map(\.number) == [3, 4] && setting.stored.count == 2)
    // The current one stays even when it is the oldest.
    try store.load(name: "x", path: "s3")
    try store.load(name: "y", path: "s1")
    try store.load(name: "y", path: "s2")
    #expect(try store.prune(keeping: 1) == [.init(name: "x", version: 4), .init(name: "y", version: 1)])
    #expect(store["x"]?.versions.map(\.number) == [3] && setting.stored.count == 2)
    try store.unload(name: "y")
    #expect(try store.prune(keeping: 5, unloaded: true) == [.init(name: "y", version: 2)])
  }

  @Test func deletingOneVersionLeavesTheOthers() throws {
    for seed in 1...3 { try setting.write("s\(seed)", rank: seed, seed: UInt64(seed)) }
    let store = try setting.open()
    for seed in 1...3 { try store.load(name: "x", path: "s\(seed)") }
    #expect(failure { try store.remove(name: "x", version: 9) }?.kind == .unknownName)
    try store.remove(name: "x", version: 3)
    #expect(store["x"]?.currentNumber == 2)
    try store.remove(name: "x", version: 1)
    #expect(store["x"]?.versions.map(\.number) == [2] && setting.stored.count == 1)
    try store.remove(name: "x", version: 2)
    #expect(store["x"] == nil && store.listings.isEmpty)
  }

  @Test func pathsOutsideTheFolderAreRefused() throws {
    let model = setting.model
    let store = try setting.open()
    let outside = try setting.write("outside", seed: 2, in: model.root)
    try setting.write("inside", seed: 2)
    // A neighbour whose path begins like the folder's.
    let neighbour = model.root.appending(path: "adapters-more")
    try setting.write("n", seed: 2, in: neighbour)
    func link(_ name: String, to path: String) throws {
      try manager.createSymbolicLink(atPath: model.adaptersFolder.appending(path: name).path, withDestinationPath: path)
    }
    try link("absolute", to: outside.path)
    try link("relative", to: "../outside")
    try link("up", to: "..")
    try link("chain", to: "relative")
    try link("loop", to: "loop")
    try link("good", to: "inside")
    for path in [
      "../outside", "../adapters-more/n", outside.path, "absolute", "relative", "chain", "up/outside",
      "inside/../../outside", "", ".", "..", "/", "/etc", "./../outside", "inside/../up/outside",
      neighbour.appending(path: "n").path,
    ] {
      #expect(failure { try store.load(name: "x", path: path) }?.kind == .badPath, "\(path)")
    }
    for path in ["loop", "missing", "inside\0", "a\0/../../outside"] {
      #expect(failure { try store.load(name: "x", path: path) } != nil, "\(path)")
    }
    #expect(store.served.isEmpty && setting.stored.isEmpty)
    try store.load(name: "x", path: "good")
    try store.load(name: "y", path: "up/adapters/inside")
  }

  @Test func withoutAFolderNothingIsLoadedByPath() throws {
    let store = try setting.open(hasFolder: false)
    #expect(failure { try store.load(name: "x", path: "a") }?.kind == .badPath)
  }

  @Test func replacingKeepsTheOldOneForItsHolders() throws {
    try setting.write("one", rank: 4)
    try setting.write("two", rank: 8, seed: 2)
    let store = try setting.open()
    try store.load(name: "x", path: "one")
    var held: AdapterSet? = AdapterSet([(try store.adapter("x"), 1)])
    weak let old = held?.terms[0].adapter
    try store.load(name: "x", path: "two")
    #expect(try store.adapter("x").rank == 8)
    #expect(old?.rank == 4 && held?.terms[0].adapter.rank == 4)
    #expect(store.memoryInUse.count == 2, "the old one counts for as long as it is held")
    held = nil
    #expect(eventually { old == nil } && store.memoryInUse.count == 1)
    // One that is refused leaves what was there.
    #expect(failure { try store.load(name: "x", path: "missing") }?.kind == .refused)
    #expect(try store.adapter("x").rank == 8)
  }

  @Test func unloadingTakesTheNameAwayForGood() throws {
    try setting.write("x")
    var store: AdapterStore? = try setting.open()
    #expect(try store?.scan().isEmpty == true)
    weak let adapter = try store?.adapter("x")
    try store?.unload(name: "x")
    #expect(store?["x"] == nil && eventually { adapter == nil } && store?.memoryInUse.bytes == 0)
    #expect(failure { try store?.unload(name: "x") }?.kind == .unknownName)
    #expect(failure { _ = try store?.adapter("x", version: 1) }?.kind == .unknownName)
    #expect(store?.listing("x")?.state == .unloaded)
    // Over restarts, and whatever the folder holds by then.
    for seed in 1...2 {
      try setting.write("x", seed: UInt64(seed))
      store = nil
      store = try setting.open()
      #expect(try store?.scan().isEmpty == true)
      #expect(store?["x"] == nil)
    }
    #expect(try store?.load(name: "x", path: "x").currentNumber == 2)
    store = nil
    #expect(try setting.open()["x"]?.currentNumber == 2)
  }

  @Test func aTensorThatIsNoNumberIsNamed() throws {
    let folder = try setting.write("nan")
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj."
    var a = [Float](repeating: 0, count: 4 * 96)
    a[7] = .infinity
    try SafetensorsWriter.write(
      [
        (prefix + "lora_A.weight", [4, 96], a),
        (prefix + "lora_B.weight", [96, 4], [Float](repeating: 0, count: 96 * 4)),
      ], to: folder.appending(path: "adapter_model.safetensors"))
    let store = try setting.open()
    let description = failure { try store.load(name: "nan", path: "nan") }?.description ?? ""
    #expect(description.contains("q_proj.lora_A.weight") && description.contains("finite"), "\(description)")
    #expect(setting.stored.isEmpty, "nothing of a refused adapter stays")
  }

  @Test func filesOverTheLimitAreRefused() throws {
    try setting.write("one")
    let store = try setting.open(sizeLimit: 2000)
    let error = failure { try store.load(name: "x", path: "one") }
    #expect(error?.kind == .refused && error?.description.contains("2000") == true)
  }
}
