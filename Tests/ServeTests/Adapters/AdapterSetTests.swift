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
    let json = #"{"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": 4, "scale": 4.0}}"#
    try Data(json.utf8).write(to: folder.appending(path: "adapter_config.json"))
    let store = try setting.open()
    #expect(try store.scan().isEmpty)
    for name in ["a", "mlx"] { #expect(store[name]?.current?.rank == 4) }
    let (a, mlx) = (try store.adapter("a"), try store.adapter("mlx"))
    #expect(a[0, .q]?.scale == mlx[0, .q]?.scale && a.bytes == mlx.bytes)
    #expect(try store.load(name: "mlx", path: "mlx").currentNumber == 1)
  }
}
