import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// Llama's relatives against transformers and PEFT, from a Hugging Face folder and from GGUF.
@Suite struct ArchitectureTests {
  private func logits(
    _ base: Base, _ fixture: ArchitectureFixture, _ adapters: AdapterSet = .none, mode: ComputeMode = .f32,
    kernels: KernelSet = .best, chunk: Int? = nil
  ) throws -> [[Float]] {
    let runner = try ForwardRunner(base, mode: mode, kernels: kernels, context: fixture.contextLength)
    return runner.logits([(fixture.tokens, adapters)], chunk: { min($1, chunk ?? $1) })[0]
  }

  private func expectClose(
    _ logits: [[Float]], _ fixture: ArchitectureFixture, _ name: String, within tolerance: Float = 1e-3
  ) throws {
    let expected = try fixture.expected.floats(name)
    let values = Array(logits.joined())
    #expect(values.count == expected.count)
    let worst = zip(values, expected).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
    #expect(worst < tolerance, "\(name)")
  }

  @Test(arguments: ArchitectureFixture.names)
  func aFolderGivesTransformersLogits(name: String) throws {
    let fixture = try ArchitectureFixture(name)
    let base = try fixture.base(fixture.source())
    try expectClose(try logits(base, fixture), fixture, "logits")
    let adapter = try Adapter(peft: fixture.adapter, base: base, mode: .f32)
    try expectClose(try logits(base, fixture, AdapterSet([(adapter, 1)])), fixture, "adapted")
  }

  @Test(arguments: ArchitectureFixture.ggufNames)
  func aGGUFFileGivesTransformersLogits(name: String) throws {
    let fixture = try ArchitectureFixture(name)
    let source = try openPublishedModel(at: try fixture.writeGGUF())
    let folder = try fixture.source()
    #expect(source.config.architecture == folder.config.architecture)
    #expect(source.config.slidingWindow == folder.config.slidingWindow)
    if case .llama3 = folder.config.rope.scaling {
      // The converter computes what each frequency is divided by.
      if case .divisors = source.config.rope.scaling {} else { Issue.record("\(source.config.rope)") }
      let size = folder.config.rotarySize
      let pairs = zip(
        RoPETable.inverseFrequencies(source.config.rope, headSize: size),
        RoPETable.inverseFrequencies(folder.config.rope, headSize: size))
      for (value, wanted) in pairs { #expect(abs(value - wanted) <= 4e-7 * wanted) }
    } else {
      #expect(source.config.rope == folder.config.rope)
    }
    for tensor in fixture.tensorNames { #expect(try source.floats(tensor) == folder.floats(tensor), "\(tensor)") }
    let base = try fixture.base(source)
    try expectClose(try logits(base, fixture), fixture, "logits")
    let adapter = try Adapter(peft: fixture.adapter, base: base, mode: .f32)
    try expectClose(try logits(base, fixture, AdapterSet([(adapter, 1)])), fixture, "adapted")
  }

  /// Of a model for images and texts the part for texts, with the names of transformers' classes, and with those that files
  /// have (and old versions' adapters).
  @Test(arguments: ArchitectureFixture.multimodalNames, [false, true])
  func thePartForTextsGivesTransformersLogits(name: String, isOld: Bool) throws {
    let fixture = try ArchitectureFixture(name)
    func rewrite(_ url: URL, adding added: [String] = []) throws {
      let file = try SafetensorsFile(url)
      var tensors = try file.tensors.values.map { (name: $0.name, shape: $0.shape, values: try file.floats($0.name)) }
      tensors += added.map { (name: $0, shape: [1, 1], values: [1]) }
      for index in tensors.indices where isOld {
        var new = tensors[index].name.replacing("model.language_model.", with: "language_model.model.")
        if new == "lm_head.weight" { new = "language_model.lm_head.weight" }
        for part in ["vision_tower.", "multi_modal_projector."] { new.replace("model.\(part)", with: part) }
        tensors[index].name = new
      }
      try SafetensorsWriter.write(tensors, to: url)
    }
    try rewrite(fixture.folder.appending(path: "model.safetensors"))
    // What the adapter does to images is passed over.
    try rewrite(
      fixture.adapter.appending(path: "adapter_model.safetensors"),
      adding: ["A", "B"].map { "base_model.model.model.vision_tower.encoder.layers.0.q_proj.lora_\($0).weight" })
    let configuration = fixture.adapter.appending(path: "adapter_config.json")
    let text = try String(contentsOf: configuration, encoding: .utf8)
    func target(_ pattern: String) throws {
      try Data(text.replacing("all-linear", with: pattern.replacing(#"\"#, with: #"\\"#)).utf8).write(to: configuration)
    }
    let both = #".*language_model\..*_proj|.*vision.*q_proj"#
    try target(both)
    let source = try fixture.source()
    #expect(source.notes.count == 1)
    let base = try fixture.base(source)
    try expectClose(try logits(base, fixture), fixture, "logits")
    let adapter = try Adapter(peft: fixture.adapter, base: base, mode: .f32)
    try expectClose(try logits(base, fixture, AdapterSet([(adapter, 1)])), fixture, "adapted")
    // Axolotl's pattern for such models, then Unsloth's.
    let prefix = isOld ? "language_model.model" : "model.language_model"
    let linear = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    let parts = "self_attn|attention|attn|mlp|feed_forward|ffn|dense"
    for pattern in [
      prefix + #".layers.[\d]+.(mlp|cross_attn|self_attn).(up|down|gate|q|k|v|o)_proj"#,
      #"(?:.*?(?:vision|image|visual|patch|language|text).*?(?:\#(parts)).*?(?:\#(linear)).*?)"#
        + #"|(?:\bmodel\.layers\.[\d]{1,}\.(?:\#(parts))\.(?:(?:\#(linear))))"#,
    ] {
      try target(pattern)
      let same = try Adapter(peft: fixture.adapter, base: base, mode: .f32)
      try expectClose(try logits(base, fixture, AdapterSet([(same, 1)])), fixture, "adapted")
    }

    try target(both)
    #expect(
      modelError { _ = try PEFTAdapter.read(folder: fixture.adapter, config: base.config) }.contains("target_modules: ")
    )

    // A merged model has all parts, with their names.
    let merged = fixture.root.appending(path: "merged")
    try MergedFolder.write(adapter: fixture.adapter, base: fixture.folder, to: merged, pool: ThreadPool(threads: 1))
    let files = try [fixture.folder, merged].map { try SafetensorsFile($0.appending(path: "model.safetensors")) }
    #expect(files[0].tensors.mapValues(\.shape) == files[1].tensors.mapValues(\.shape))
    let result = try openPublishedModel(at: merged)
    for name in ["self_attn.q_proj", "mlp.down_proj"].map({ "model.layers.1.\($0).weight" }) {
      let pairs = zip(try result.floats(name), try source.floats(name))
      #expect(pairs.contains { abs($0 - $1) > 0.01 } && !pairs.contains { abs($0 - $1) > 1 }, "\(name)")
    }
    #expect(
      modelError {
        try BitsAndBytesFolder.write(
          base: fixture.folder, to: fixture.root.appending(path: "nf4"), usesDoubleQuantization: false,
          pool: ThreadPool(threads: 1))
      }.contains("for images and texts"))
  }

  @Test(arguments: ArchitectureFixture.names, ComputeMode.allCases)
  func chunksAndInstructionSetsChangeNoBit(name: String, mode: ComputeMode) throws {
    let fixture = try ArchitectureFixture(name)
    let base = try fixture.base(fixture.source(), mode)
    let adapter = try Adapter(peft: fixture.adapter, base: base, mode: mode)
    let adapters = AdapterSet([(adapter, 1)])
    let whole = bits(try logits(base, fixture, adapters, mode: mode))
    for chunk in [1, 5] { #expect(bits(try logits(base, fixture, adapters, mode: mode, chunk: chunk)) == whole) }
    let scalar = try #require(KernelSet(.scalar))
    #expect(bits(try logits(base, fixture, adapters, mode: mode, kernels: scalar)) == whole)
    try expectClose(
      try logits(base, fixture, adapters, mode: mode), fixture, "adapted", within: mode == .f32 ? 1e-3 : 0.5)
  }
}
