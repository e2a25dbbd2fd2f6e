import Formats
import Foundation
import TestSupport
import Testing

@testable import Model
@testable import Serve

/// Weighted sets of adapters under names of their own, and adapters in other forms than PEFT's.
@Suite struct AdapterSetTests {
  private typealias Members = [(reference: AdapterReference, weight: Float)]

  private let setting: StoreSetting

  init() throws { setting = try StoreSetting(adapters: ["a", "b"]) }

  private func opened() throws -> AdapterStore {
    let store = try setting.open()
    for name in ["a", "b"] { try store.load(name: name, path: name) }
    return store
  }

  private func members(_ a: Float, _ b: Float) -> Members {
    [(AdapterReference(name: "a"), a), (AdapterReference(name: "b"), b)]
  }

  @Test func aSetIsAnAdapterWithVersionsThatOutlivesARestart() throws {
    var store: AdapterStore? = try opened()
    let record = try #require(try store?.combine(name: "mix", members(0.7, 0.3), .cat))
    let first = try #require(record.current)
    #expect(first.number == 1 && first.rank == 8 && first.targets == ["q_proj"])
    #expect(first.source?.contains("a@1:0.7") == true && first.source?.hasSuffix("(cat)") == true)
    // The order of the members makes no other contents, other weights do.
    let turned = Members(members(0.7, 0.3).reversed())
    #expect(try store?.combine(name: "mix", turned, .cat).currentNumber == 1)
    #expect(try store?.combine(name: "mix", members(0.6, 0.4), .cat).currentNumber == 2)
    #expect(try store?.combine(name: "mix", members(0.6, 0.4), .linear).current?.rank == 4)
    store = nil
    let again = try setting.open()
    #expect(again["mix"]?.versions.map(\.number) == [1, 2, 3])
    #expect(try again.adapter("mix", version: 1).rank == 8)
    // What becomes of a member changes no set.
    try again.remove(name: "a")
    #expect(try again.adapter("mix").rank == 4)
    try again.remove(name: "mix")
    #expect(again["mix"] == nil && failure { _ = try again.adapter("mix") }?.kind == .unknownName)
  }

  @Test func missingMembersAndItselfAreRefused() throws {
    let store = try opened()
    let missing = failure { try store.combine(name: "mix", [(AdapterReference(name: "c"), 1)], .cat) }
    #expect(missing?.kind == .unknownName && missing?.description.contains("'c'") == true)
    let version = failure { try store.combine(name: "mix", [(AdapterReference(name: "a", version: 7), 1)], .cat) }
    #expect(version?.kind == .unknownName)
    try store.combine(name: "mix", members(1, 1), .cat)
    let itself = failure { try store.combine(name: "mix", [(AdapterReference(name: "mix"), 1)], .cat) }
    #expect(itself?.kind == .refused && itself?.description.contains("member of itself") == true)
    #expect(failure { try store.combine(name: "tiny", members(1, 1), .cat) }?.kind == .badName)
    try setting.write("wide", rank: 5)
    try store.load(name: "wide", path: "wide")
    let ranks: Members = [(AdapterReference(name: "a"), 1), (AdapterReference(name: "wide"), 1)]
    #expect(failure { try store.combine(name: "other", ranks, .linear) }?.description.contains("several ranks") == true)
    #expect(store["other"] == nil && store["mix"]?.currentNumber == 1)
    // A set of sets is made of what they are now.
    try store.combine(name: "deep", [(AdapterReference(name: "mix"), 0.5), (AdapterReference(name: "wide"), 1)], .cat)
    #expect(store["deep"]?.current?.rank == 13)
  }

  /// `cat` adds the ranks, up to what the engine computes.
  @Test func ranksAddUp() throws {
    for name in ["x", "y", "z"] { try setting.write(name, rank: 256, seed: UInt64(name.utf8.first ?? 0)) }
    try setting.write("wide", rank: 512)
    let store = try setting.open(memory: 8 << 20)
    for name in ["x", "y", "z", "wide"] { try store.load(name: name, path: name) }
    let three: Members = ["x", "y", "z"].map { (AdapterReference(name: $0), 0.5) }
    #expect(try store.combine(name: "three", three, .cat).current?.rank == 768)
    #expect(try store.adapter("three").rank == 768)
    let nine = Members(repeating: (AdapterReference(name: "wide"), 0.1), count: 9)
    let message = failure { try store.combine(name: "nine", nine, .cat) }?.description ?? ""
    #expect(message.contains("the ranks of wide@1 (512), wide@1 (512)"), "\(message)")
    #expect(message.contains("add up to 4608, more than 4096; name the adapters in the request instead"))
  }

  /// MLX-LM's form of an adapter has the contents of PEFT's, transposed; loaded again, it is the same version.
  @Test func anMLXAdapterIsRewritten() throws {
    let peft = try SafetensorsFile(setting.model.adaptersFolder.appending(path: "a/adapter_model.safetensors"))
    let folder = setting.model.adaptersFolder.appending(path: "mlx")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let prefix = "base_model.model."
    let tensors = try peft.tensors.values.map { tensor -> (name: String, shape: [Int], values: [Float]) in
      let (rows, columns, values) = (tensor.shape[0], tensor.shape[1], try peft.floats(tensor.name))
      let turned = (0..<columns).flatMap { column in (0..<rows).map { values[$0 * columns + column] } }
      let name = tensor.name.dropFirst(prefix.count).replacing("lora_A.weight", with: "lora_a")
        .replacing("lora_B.weight", with: "lora_b")
      return (String(name), [columns, rows], turned)
    }
    try SafetensorsWriter.write(tensors, to: folder.appending(path: "adapters.safetensors"))
    // α / r of what `writeAdapter` writes.
    let json = #"{"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": 4, "scale": 4.0, "alpha": 9}}"#
    try Data(json.utf8).write(to: folder.appending(path: "adapter_config.json"))
    let store = try setting.open()
    #expect(try store.scan().isEmpty)
    for name in ["a", "mlx"] { #expect(store[name]?.current?.rank == 4) }
    let (a, mlx) = (try store.adapter("a"), try store.adapter("mlx"))
    #expect(a[0, .q]?.scale == mlx[0, .q]?.scale && a.bytes == mlx.bytes)
    #expect(try store.load(name: "mlx", path: "mlx").currentNumber == 1)
    #expect(setting.log.contains { $0.contains("lora_parameters.alpha is not used") }, "\(setting.log)")
  }
  /// A GGUF file in the adapters' folder is an adapter of its stem, as a folder is of its name.
  @Test func aGGUFFileIsRegisteredUnderItsStem() throws {
    let (folder, source) = (setting.model.adaptersFolder, try setting.model.source())
    func write(_ name: String, of adapter: String = "a") throws {
      try AdapterExport.writeGGUF(
        folder.appending(path: adapter), config: source.config, tables: { BaseTables(source) },
        to: folder.appending(path: name), name: adapter)
    }
    for name in ["pirate.gguf", "a.gguf"] { try write(name) }
    var store: AdapterStore? = try setting.open()
    let refused = try store?.scan() ?? []
    #expect(refused.map(\.name) == ["a.gguf"])
    #expect(refused.first?.error.description == "'a.gguf' would have the name of the folder 'a'")
    #expect(store?["pirate"]?.current?.rank == 4)
    let scale = try store?.adapter("pirate")[0, .q]?.scale
    #expect(try scale == store?.adapter("a")[0, .q]?.scale)
    // Unloaded, it stays so, whether or not the file changes.
    try store?.unload(name: "pirate")
    for changes in [false, true] {
      if changes {
        try FileManager.default.removeItem(at: folder.appending(path: "pirate.gguf"))
        try write("pirate.gguf", of: "b")
      }
      store = nil
      store = try setting.open()
      _ = try store?.scan()
      #expect(store?.listing("pirate")?.record.isLoaded == false)
    }
    // Loaded from its path, it is as its own folder would be.
    #expect(try store?.load(name: "pirate", path: "pirate.gguf").currentNumber == 2)
    store = nil
    store = try setting.open()
    _ = try store?.scan()
    #expect(store?["pirate"]?.currentNumber == 2)
  }
}
