import Formats
import Foundation
import TestSupport
import Testing

@testable import Model

/// Held to adapters that PEFT wrote (scripts/fixtures/peft_fixtures.py) and to its rules for names.
@Suite struct PEFTTests {
  /// Two layers, every size 32, as the fixtures are cut.
  static let config = ModelConfig(
    vocabularySize: 32, hiddenSize: 32, intermediateSize: 32, layerCount: 2, headCount: 4, keyValueHeadCount: 4,
    headSize: 8, contextLength: 64, rmsNormEpsilon: 1e-5, rope: RoPEParameters(theta: 10_000), tiedHead: true,
    bosToken: nil, eosTokens: [])

  private func adapter(_ name: String) throws -> PEFTAdapter {
    try PEFTAdapter.read(folder: adapterFixture("\(name)"), config: Self.config)
  }

  @Test func allLinears() throws {
    let adapter = try adapter("r8-all")
    #expect(adapter.updates.map(\.projection) == Projection.separate + Projection.separate)
    #expect(adapter.updates.map(\.layer) == [Int](repeating: 0, count: 7) + [Int](repeating: 1, count: 7))
    #expect(adapter.updates.allSatisfy { $0.rank == 8 && $0.scale == 2 && $0.magnitude == nil })
    #expect(!adapter.usesDoRA && adapter.baseModel == "HuggingFaceTB/SmolLM2-135M-Instruct")
    let file = try SafetensorsFile(adapterFixture("r8-all/adapter_model.safetensors"))
    let down = try #require(adapter.updates.last)
    let prefix = "base_model.model.model.layers.1.mlp.down_proj"
    #expect(try down.a == file.floats("\(prefix).lora_A.weight"))
    #expect(try down.b == file.floats("\(prefix).lora_B.weight"))
    #expect(down.a.count == 8 * 32 && down.a.contains { $0 != 0 } && down.b.contains { $0 != 0 })
  }

  @Test func rankStabilized() throws {
    let adapter = try adapter("r4-qv-rslora")
    #expect(adapter.updates.map(\.projection) == [.q, .v, .q, .v])
    #expect(adapter.updates.allSatisfy { $0.rank == 4 && $0.scale == 4 })
  }

  @Test func patterns() throws {
    let adapter = try adapter("r4-pattern")
    #expect(adapter.updates.map(\.projection) == [.q, .o, .down, .q, .o, .down])
    #expect(adapter.updates.map(\.rank) == [4, 4, 2, 4, 4, 2])
    #expect(adapter.updates.map(\.scale) == [2, 3, 4, 2, 3, 4])
  }

  @Test func magnitudes() throws {
    let adapter = try adapter("r4-dora")
    #expect(adapter.usesDoRA && adapter.updates.map(\.projection) == [.q, .v, .up, .q, .v, .up])
    #expect(adapter.updates.allSatisfy { $0.magnitude?.count == 32 })
  }

  // MARK: Synthetic adapters

  /// Writes an adapter of rank 2 for `modules`, with `fields` over a plain configuration.
  private func write(
    _ folder: TemporaryFolder, fields: String = "", modules: [String] = ["0.self_attn.q_proj", "1.self_attn.q_proj"],
    rank: Int = 2, targets: String = "[\"q_proj\"]",
    change: (inout [(name: String, shape: [Int], values: [Float])]) -> Void = { _ in }
  ) throws {
    var tensors: [(name: String, shape: [Int], values: [Float])] = []
    for module in modules {
      let prefix = "base_model.model.model.layers.\(module)"
      tensors.append(("\(prefix).lora_A.weight", [rank, 32], [Float](repeating: 0.5, count: rank * 32)))
      tensors.append(("\(prefix).lora_B.weight", [32, rank], [Float](repeating: 0.25, count: rank * 32)))
    }
    change(&tensors)
    let text = """
      {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": \(targets)\(fields.isEmpty ? "" : ", " + fields)}
      """
    _ = try folder.write("adapter_config.json", text)
    try SafetensorsWriter.write(
      tensors, metadata: ["format": "pt"], to: folder.url.appendingPathComponent("adapter_model.safetensors"))
  }

  private func read(_ folder: TemporaryFolder) throws -> PEFTAdapter {
    try PEFTAdapter.read(folder: folder.url, config: Self.config)
  }

  @Test(arguments: [
    ("\"bias\": \"some\"", "bias"), ("\"modules_to_save\": [\"norm\"]", "modules_to_save"),
    ("\"trainable_token_indices\": [1]", "trainable_token_indices"),
    ("\"layer_replication\": [[0, 1]]", "layer_replication"),
    ("\"lora_bias\": true", "lora_bias"), ("\"use_qalora\": true", "use_qalora"),
    ("\"alora_invocation_tokens\": [1]", "alora_invocation_tokens"),
    ("\"target_parameters\": [\"x\"]", "target_parameters"),
    ("\"megatron_config\": {\"a\": 1}", "megatron_config"), ("\"fan_in_fan_out\": 1", "fan_in_fan_out"),
    ("\"init_lora_weights\": \"pissa\"", "init_lora_weights"),
    ("\"init_lora_weights\": \"olora\"", "init_lora_weights"),
    ("\"init_lora_weights\": \"loftq\"", "init_lora_weights"), ("\"init_lora_weights\": \"mica\"", "init_lora_weights"),
    ("\"init_lora_weights\": \"corda\"", "init_lora_weights"), ("\"kasa_config\": {\"beta\": 1}", "kasa_config"),
    ("\"from_the_future\": 0", "from_the_future"), ("\"lora_dropout_\": \"x\"", "lora_dropout_"),
    ("\"use_rslora\": 1", "use_rslora"), ("\"rank_pattern\": {\"q_proj\": 0}", "rank_pattern"),
    ("\"rank_pattern\": {\"q_proj\": 513}", "rank_pattern"), ("\"rank_pattern\": {\"(\": 2}", "rank_pattern"),
    ("\"alpha_pattern\": {\"q_proj\": \"8\"}", "alpha_pattern"), ("\"layers_pattern\": \"layers\"", "layers_pattern"),
  ]) func refusesFieldsByName(field: String, name: String) throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try write(folder, fields: field)
    let message = modelError { _ = try read(folder) }
    #expect(message.hasPrefix("adapter_config.json: \(name): "), "\(message)")
  }

  @Test func acceptsFieldsWithoutEffect() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try write(
      folder,
      fields: """
        "from_the_future": null, "another": false, "third": [], "fourth": {}, "lora_dropout": 0.1, "bias": "none",
        "init_lora_weights": "gaussian", "task_type": "CAUSAL_LM", "inference_mode": true, "peft_version": "0.21.2",
        "megatron_core": "megatron.core", "qalora_group_size": 16, "revision": null, "auto_mapping": null
        """)
    let adapter = try read(folder)
    #expect(adapter.updates.count == 2 && adapter.updates.allSatisfy { $0.scale == 2 })
  }

  /// Which modules PEFT would target.
  @Test(arguments: [
    ("[\"self_attn.q_proj\"]", "", ["0.self_attn.q_proj", "1.self_attn.q_proj"]),
    ("[\"attn.q_proj\", \"proj\", \"v_proj\"]", "", ["0.self_attn.v_proj", "1.self_attn.v_proj"]),
    ("[\"model.layers.1.mlp.up_proj\"]", "", ["1.mlp.up_proj"]),
    ("[\"q_proj\"]", "\"layers_to_transform\": 1", ["1.self_attn.q_proj"]),
    ("[\"q_proj\"]", "\"layers_to_transform\": [0, 7]", ["0.self_attn.q_proj"]),
    ("[\"q_proj\"]", "\"layers_to_transform\": [0], \"layers_pattern\": [\"h\", \"layers\"]", ["0.self_attn.q_proj"]),
    // A full name is targeted whatever the layers are.
    (
      "[\"model.layers.1.mlp.up_proj\", \"q_proj\"]", "\"layers_to_transform\": [0]",
      ["0.self_attn.q_proj", "1.mlp.up_proj"]
    ),
    ("\".*1.*(up|down)_proj\"", "", ["1.mlp.up_proj", "1.mlp.down_proj"]),
    (
      "\".*q_proj|.*v_proj\"", "\"exclude_modules\": \".*\\\\.0\\\\..*\"",
      ["1.self_attn.q_proj", "1.self_attn.v_proj"]
    ),
    ("[\"q_proj\", \"v_proj\"]", "\"exclude_modules\": [\"v_proj\", \"1.self_attn.q_proj\"]", ["0.self_attn.q_proj"]),
    ("null", "\"layers_to_transform\": [1]", ["1.self_attn.q_proj", "1.self_attn.v_proj"]),
    // Unsloth's for all classes: a part for images and texts, or a model of texts.
    (
      #"""
      "(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:q_proj|up_proj).*?)|\#
      (?:\\bmodel\\.layers\\.[\\d]{1,}\\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\\.(?:(?:q_proj|up_proj)))"
      """#, "", ["0.self_attn.q_proj", "0.mlp.up_proj", "1.self_attn.q_proj", "1.mlp.up_proj"]
    ),
    (
      #"""
      "(?:.*?(?:language|text).*?(?:self_attn|attn|mixer|mlp|dense).*?\\.(?:q_proj|v_proj))|(?:\\bmodel\\.layers\\.[\\d]{1,}\#
      (?!.*\\.experts\\.\\d)\\..*?(?:self_attn|attn|mixer|mlp|dense).*?\\.(?:(?:q_proj|v_proj)))"
      """#, "", ["0.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.q_proj", "1.self_attn.v_proj"]
    ),
  ]) func targets(targets: String, fields: String, modules: [String]) throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try write(folder, fields: fields, modules: modules, targets: targets)
    let found = try read(folder).updates.map { "\($0.layer).\($0.projection.rawValue)" }
    #expect(Set(found) == Set(modules) && found.count == modules.count)
  }

  @Test func allLinearShorthand() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let modules = (0..<2).flatMap { layer in Projection.separate.map { "\(layer).\($0.rawValue)" } }
    try write(folder, modules: modules, targets: "\"all-linear\"")
    #expect(try read(folder).updates.count == 14)
  }

  @Test(arguments: [
    "[\"embed_tokens\", \"q_proj\"]", "[\"lm_head\", \"q_proj\"]", "\".*(q_proj|norm)\"", "\".*\"", "[\"c_attn\"]",
    "[]", "\"(\"", "3", "[1]",
  ]) func refusesTargets(targets: String) throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try write(folder, targets: targets)
    #expect(modelError { _ = try read(folder) }.hasPrefix("adapter_config.json: target_modules: "))
  }

  /// PEFT takes the first pattern of the file's order that matches after a dot or from the start.
  @Test func firstPatternDecides() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let fields = """
      "rank_pattern": {"proj": 7, "layers.0.self_attn.q_proj": 3, "q_proj": 5, "self_attn.q_proj": 6},
      "alpha_pattern": {"^model.layers.1.self_attn.q_proj": 10, "model.layers.[01].self_attn.(q|k)_proj": 6.0}
      """
    try write(folder, fields: fields, modules: []) { tensors in
      for (layer, rank) in [(0, 3), (1, 5)] {
        let prefix = "base_model.model.model.layers.\(layer).self_attn.q_proj"
        tensors.append(("\(prefix).lora_A.weight", [rank, 32], [Float](repeating: 1, count: rank * 32)))
        tensors.append(("\(prefix).lora_B.weight", [32, rank], [Float](repeating: 1, count: rank * 32)))
      }
    }
    let adapter = try read(folder)
    #expect(adapter.updates.map(\.rank) == [3, 5])
    #expect(adapter.updates.map(\.scale) == [2, 2])
  }

  @Test func refusesTensorsByName() throws {
    typealias Tensors = [(name: String, shape: [Int], values: [Float])]
    let q = "base_model.model.model.layers.0.self_attn.q_proj"
    let cases: [(String, (inout Tensors) -> Void)] = [
      ("\(q).lora_B.weight: missing", { $0.remove(at: 1) }),
      ("\(q).lora_A.other.weight: unexpected", { $0[0].name = "\(q).lora_A.other.weight" }),
      ("\(q).lora_A.weight: comes twice", { $0.append(("\(q).lora_A.default.weight", [2, 32], $0[0].values)) }),
      ("\(q).lora_B.bias: unexpected", { $0.append(("\(q).lora_B.bias", [1], [0])) }),
      (
        "\(q).lora_magnitude_vector: unexpected",
        { $0.append(("\(q).lora_magnitude_vector", [32], .init(repeating: 1, count: 32))) }
      ),
      ("\(q).lora_A.weight: shape [32, 2] instead of [2, 32]", { $0[0].shape = [32, 2] }),
      ("\(q).lora_A.weight: has values that are not finite", { $0[0].values[9] = .nan }),
      ("\(q).lora_B.weight: has values that are not finite", { $0[1].values[63] = -.infinity }),
      (
        "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight: unexpected",
        { $0.append(("base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight", [1], [0])) }
      ),
    ]
    for (message, change) in cases {
      let folder = try TemporaryFolder()
      defer { folder.remove() }
      try write(folder, change: change)
      #expect(modelError { _ = try read(folder) }.hasPrefix("adapter_model.safetensors: \(message)"), "\(message)")
    }
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try write(folder, rank: 3)
    #expect(modelError { _ = try read(folder) }.contains("shape [3, 32] instead of [2, 32]"))
  }

  @Test func refusesOtherKindsAndPickles() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    _ = try folder.write("adapter_config.json", "{\"peft_type\": \"IA3\"}")
    #expect(modelError { _ = try read(folder) } == "adapter_config.json: peft_type: IA3 is not supported, only LORA")
    _ = try folder.write("adapter_config.json", "{\"peft_type\": \"LORA\", \"target_modules\": [\"q_proj\"]}")
    _ = try folder.write("adapter_model.bin", "x")
    #expect(
      modelError { _ = try read(folder) }
        == "adapter_model.bin: pickle files are not read; convert to safetensors")
  }

  @Test func hostilePatternsEnd() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try write(folder, targets: "\"(.*)*(.*)*(.*)*x\"")
    #expect(modelError { _ = try read(folder) }.contains("target_modules: "))
    try write(folder, targets: "\"\(String(repeating: "(", count: 5000))\"")
    #expect(modelError { _ = try read(folder) }.contains("target_modules: not a regular expression"))
  }

  @Test func damagedFilesThrowOnlyModelErrors() throws {
    var generator = TinyRandom(seed: 2)
    for name in ["r4-dora", "r4-pattern"] {
      let source = adapterFixture("\(name)")
      let config = [UInt8](try Data(contentsOf: source.appendingPathComponent("adapter_config.json")))
      let weights = [UInt8](try Data(contentsOf: source.appendingPathComponent("adapter_model.safetensors")))
      let folder = try TemporaryFolder()
      defer { folder.remove() }
      for round in 0..<1000 {
        let damagesConfig = round % 2 == 0
        _ = try folder.write("adapter_config.json", damagesConfig ? mutated(config, using: &generator) : config)
        let head = Array(weights[..<3000])
        let damaged = damagesConfig ? head : mutated(head, using: &generator)
        _ = try folder.write("adapter_model.safetensors", damaged + weights[3000...])
        do { _ = try read(folder) } catch is ModelError {}
      }
    }
  }
}
