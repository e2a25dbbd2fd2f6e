import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// Adapters of every kind against the logits that PEFT computes in double precision (scripts/fixtures/adapter_fixtures.py).
@Suite struct AdapterFormTests {
  @Test(arguments: AdapterForm.peft + AdapterForm.foreign)
  func itGivesPEFTsLogits(name: String) throws {
    let setting = try AdapterFormSetting(name)
    let base = try setting.base()
    let adapters = AdapterSet([(try setting.adapter(base), 1)])
    let logits = try setting.logits(base, adapters)
    #expect(logits.count * base.config.vocabularySize == setting.expected.count)
    let error = setting.error(logits)
    #expect(error < 5e-6, "\(error)")
    // The base's own logits are far from these, and so is the oracle worth something.
    #expect(setting.worst(try setting.logits(base, .none)) > 1e-2)
    for chunk in [1, 5] { #expect(bits(try setting.logits(base, adapters, chunk: chunk)) == bits(logits)) }
  }

  @Test(arguments: AdapterForm.peft)
  func theFastModeIsNear(name: String) throws {
    let setting = try AdapterFormSetting(name)
    let base = try setting.base(.fast)
    let adapters = AdapterSet([(try setting.adapter(base, .fast), 1)])
    let logits = try setting.logits(base, adapters, mode: .fast)
    #expect(setting.worst(logits) < 0.5)
    for chunk in [1, 5] {
      #expect(bits(try setting.logits(base, adapters, mode: .fast, chunk: chunk)) == bits(logits))
    }
  }

  /// Rows of the base, of other adapters and of sets in one batch have the bits that they have alone.
  @Test(
    arguments: ["saved-tables", "saved-norms", "lora-tables", "lora-bias", "tokens-both", "ia3"],
    [ComputeMode.f32, .fast])
  func aMixedBatchChangesNoBit(name: String, mode: ComputeMode) throws {
    let setting = try AdapterFormSetting(name)
    let base = try setting.base(mode)
    let adapter = try setting.adapter(base, mode)
    let plain = try Adapter(peft: setting.fixture.adapter, base: base, mode: mode)
    let sets: [AdapterSet] = [
      .none, AdapterSet([(adapter, 1)]), AdapterSet([(plain, 1)]), AdapterSet([(adapter, 0.5), (plain, -0.25)]), .none,
    ]
    let alone = try sets.map { bits(try setting.logits(base, $0, mode: mode)) }
    let runner = try ForwardRunner(base, mode: mode)
    let together = runner.logits(sets.map { (setting.tokens, $0) }, chunk: { index, left in min(left, 3 + index) })
    for (index, logits) in together.enumerated() { #expect(bits(logits) == alone[index], "\(index)") }
    #expect(alone[1] != alone[0] && alone[3] != alone[2])
  }

  /// Every part is a difference from the base: a weight of 0 gives the base, and halves of the same make a whole.
  @Test(arguments: ["saved-tables", "saved-norms", "tokens-both", "lora-bias", "ia3-all"])
  func weightsMultiplyEveryPart(name: String) throws {
    let setting = try AdapterFormSetting(name)
    let base = try setting.base()
    let adapter = try setting.adapter(base)
    #expect(bits(try setting.logits(base, AdapterSet([(adapter, 0)]))) == bits(try setting.logits(base, .none)))
    #expect(setting.error(try setting.logits(base, AdapterSet([(adapter, 0.25), (adapter, 0.75)]))) < 5e-6)
  }

  /// PEFT warns and takes `fan_in_fan_out` for false, of LoRA, DoRA and IA3 alike.
  @Test(arguments: ["lora-tables", "lora-head-dora", "lora-bias", "ia3-all", "ia3-fused", "pissa"])
  func transposedWeightsAreTakenForPlainOnes(name: String) throws {
    let setting = try AdapterFormSetting(name)
    let base = try setting.base()
    let copy = try TemporaryFolder()
    defer { copy.remove() }
    let folder = copy.url.appending(path: "adapter")
    try FileManager.default.copyItem(at: setting.form.folder, to: folder)
    let url = folder.appending(path: "adapter_config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    #expect(text.contains("\"fan_in_fan_out\": false"))
    try Data(text.replacing("\"fan_in_fan_out\": false", with: "\"fan_in_fan_out\": true").utf8).write(to: url)
    let adapter = try setting.adapter(base, of: folder)
    #expect(setting.error(try setting.logits(base, AdapterSet([(adapter, 1)]))) < 5e-6)
  }

  /// Whoever has no store reads every form, too.
  @Test(arguments: AdapterForm.foreign + ["set-a"])
  func everyFormIsReadFromItsFolder(name: String) throws {
    let setting = try AdapterFormSetting(name)
    let base = try setting.base()
    let adapter = try Adapter.read(setting.form.folder, base: base, mode: .f32)
    #expect(setting.error(try setting.logits(base, AdapterSet([(adapter, 1)]))) < 5e-6)
    var folders: [URL] = []
    _ = try AdapterImport.withPEFTFolder(setting.form.folder, config: base.config) { folders.append($0) }
    #expect(folders.first.map { FileManager.default.fileExists(atPath: $0.path) } == (name == "set-a"))
  }

  /// An adapter beside its initial one says all that rewriting it needs; GGUF and MLX-LM leave out the base's sizes.
  @Test(arguments: ["pissa", "olora", "gguf"]) func onlyFormsWithoutSizesNeedTheBase(name: String) throws {
    let setting = try AdapterFormSetting(name)
    let isNeeded = name == "gguf"
    let found = PEFTInspection(folder: setting.form.folder)
    #expect(found.problems.count == (isNeeded ? 1 : 0), "\(found.problems)")
    if !isNeeded { #expect(try found == PEFTInspection(folder: setting.form.folder, config: setting.base().config)) }
    func config() throws -> ModelConfig { throw ModelError("the base", reason: "was asked for") }
    func read() throws { try AdapterImport.withPEFTFolder(setting.form.folder, config: config()) { _ in } }
    if isNeeded { #expect(modelError(read) == "the base: was asked for") } else { try read() }
  }

  /// The other initialisations that change the base are undone as PiSSA's is.
  @Test(arguments: [("corda", "corda_init"), ("lora_ga", "lora_ga_init"), ("pissa_niter_4", "pissa_init")])
  func everyChangedBaseIsUndone(method: String, initial: String) throws {
    let setting = try AdapterFormSetting("pissa")
    let base = try setting.base()
    let copy = try TemporaryFolder()
    defer { copy.remove() }
    let folder = copy.url.appending(path: "adapter")
    try FileManager.default.copyItem(at: setting.form.folder, to: folder)
    try FileManager.default.moveItem(
      at: folder.appending(path: "initial_adapter"), to: folder.appending(path: initial))
    let url = folder.appending(path: "adapter_config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    try Data(text.replacing("\"pissa\"", with: "\"\(method)\"").utf8).write(to: url)
    let adapter = try Adapter.read(folder, base: base, mode: .f32)
    #expect(setting.error(try setting.logits(base, AdapterSet([(adapter, 1)]))) < 5e-6)
  }

  /// What an adapter of the embedding and the head adds is the trained product less the initial one there, too.
  @Test func anInitialAdapterOfTablesIsSubtracted() throws {
    let setting = try AdapterFormSetting("lora-tables")
    let base = try setting.base()
    let copy = try TemporaryFolder()
    defer { copy.remove() }
    let (trained, initial) = (copy.url.appending(path: "a"), copy.url.appending(path: "b"))
    for folder in [trained, initial] { try FileManager.default.copyItem(at: setting.form.folder, to: folder) }
    let weights = initial.appending(path: "adapter_model.safetensors")
    let file = try SafetensorsFile(weights)
    try SafetensorsWriter.write(
      file.tensors.values.map { tensor in
        let isB = tensor.name.contains("lora_B") || tensor.name.contains("lora_embedding_B")
        return (tensor.name, tensor.shape, try file.floats(tensor.name).map { isB ? 0.25 - $0 : $0 })
      }, to: weights)
    let terms = try [trained, initial].map { try Adapter(peft: $0, base: base, mode: .f32) }
    let wanted = try setting.logits(base, AdapterSet([(terms[0], 1), (terms[1], -1)]))
    try FileManager.default.copyItem(at: initial, to: trained.appending(path: "initial_adapter"))
    let url = trained.appending(path: "adapter_config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    try Data(text.replacing("\"init_lora_weights\": true", with: "\"init_lora_weights\": \"pissa\"").utf8).write(
      to: url)
    let adapter = try Adapter.read(trained, base: base, mode: .f32)
    let found = try setting.logits(base, AdapterSet([(adapter, 1)]))
    let largest = zip(wanted.joined(), found.joined()).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
    #expect(largest < 5e-6 * (wanted.joined().map(abs).max() ?? 0), "\(largest)")
    #expect(setting.worst(found) > 1e-2)
  }

  // MARK: sets

  @Test(arguments: ["set-cat", "set-linear"])
  func aSetEqualsPEFTsWeightedAdapter(name: String) throws {
    let setting = try AdapterFormSetting(name)
    let base = try setting.base()
    let folders = try ["set-a", "set-b"].map { try AdapterForm($0).folder }
    let sum = try TemporaryFolder()
    defer { sum.remove() }
    let combination: WeightedSum.Combination = name == "set-cat" ? .cat : .linear
    let members = zip(folders, [Float(0.7), -0.3]).map {
      WeightedSum.Member(label: $0.lastPathComponent, folder: $0, weight: $1)
    }
    try WeightedSum.write(members, combination, to: sum.url, base: base)
    let named = try Adapter(peft: sum.url, base: base, mode: .f32)
    #expect(setting.error(try setting.logits(base, AdapterSet([(named, 1)]))) < 5e-6)
    let a = try Adapter(peft: folders[0], base: base, mode: .f32)
    let b = try Adapter(peft: folders[1], base: base, mode: .f32)
    let unmerged = setting.worst(try setting.logits(base, AdapterSet([(a, 0.7), (b, -0.3)])))
    // The sum of a request is the exact one.
    if combination == .cat { #expect(unmerged < 1e-4, "\(unmerged)") } else { #expect(unmerged > 1e-3) }
  }

  @Test func whatIsNotPlainCannotBeCombined() throws {
    let sum = try TemporaryFolder()
    defer { sum.remove() }
    for name in ["lora-head-dora", "lora-bias", "saved-norms", "saved-tables", "tokens-both", "ia3"] {
      let setting = try AdapterFormSetting(name)
      let message = modelError {
        try WeightedSum.write(
          [.init(label: "a@1", folder: setting.form.folder, weight: 1)], .cat, to: sum.url, base: setting.base())
      }
      #expect(message.hasPrefix("a@1: is not plain LoRA"), "\(name): \(message)")
    }
    // Copies of the base's own, which PEFT saves with factors of tables, do not count.
    let tables = try AdapterFormSetting("lora-tables")
    try WeightedSum.write(
      [.init(label: "a", folder: tables.form.folder, weight: 1)], .cat, to: sum.url, base: tables.base())
    let base = try tables.base()
    let adapter = try Adapter(peft: sum.url, base: base, mode: .f32)
    #expect(tables.error(try tables.logits(base, AdapterSet([(adapter, 1)]))) < 5e-6)
  }
}
