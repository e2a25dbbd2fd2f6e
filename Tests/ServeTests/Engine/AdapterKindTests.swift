import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Serve

/// Adapters that change more than projections, in the engine: blocks of the cache belong to one adapter's contents and weight.
@Suite struct AdapterKindTests {
  private typealias Tensors = [(name: String, shape: [Int], values: [Float])]

  private static let prefix = "base_model.model."

  /// An adapter of plain factors of q beside other parts.
  /// - Parameters:
  ///   - fields: of the configuration, each after a comma
  ///   - tensors: of the other parts, their names without PEFT's prefix
  private static func write(
    _ name: String, _ model: TinyModel, base: Base, mode: ComputeMode, fields: String, _ tensors: Tensors
  ) throws -> Adapter {
    let folder = try model.writeAdapter(name, ranks: [.q: 4], seed: 5).folder
    let configuration = folder.appending(path: "adapter_config.json")
    var json = try String(contentsOf: configuration, encoding: .utf8)
    json = json.replacing("\"bias\":\"none\"", with: "\"bias\":\"none\"" + fields)
    try Data(json.utf8).write(to: configuration)
    let weights = folder.appending(path: "adapter_model.safetensors")
    let file = try SafetensorsFile(weights)
    let factors = try file.tensors.values.map {
      (name: $0.name, shape: $0.shape, values: try file.floats($0.name))
    }
    try SafetensorsWriter.write(factors + tensors.map { (prefix + $0.name, $0.shape, $0.values) }, to: weights)
    return try Adapter(peft: folder, base: base, mode: mode)
  }

  /// Adapters whose factors are the same, which differ only by another part, and one without factors.
  private static func adapters(_ model: TinyModel, base: Base, mode: ComputeMode) throws -> [Adapter] {
    let (hidden, vocabulary) = (model.shape.hidden, model.shape.vocabulary)
    func changed(_ name: String, by scale: Float, seed: UInt64) throws -> (name: String, shape: [Int], values: [Float])
    {
      let tensor = try #require(model.tensors[name])
      var random = TinyRandom(seed: seed)
      let drawn = random.values(tensor.values.count, scale: scale)
      return (name, tensor.shape, zip(tensor.values, drawn).map { $0 + $1 })
    }
    var random = TinyRandom(seed: 8)
    let modules = "model.layers.1.self_attn.v_proj"
    let ia3 = model.adaptersFolder.appending(path: "scaled")
    try FileManager.default.createDirectory(at: ia3, withIntermediateDirectories: true)
    let outputs = model.shape.keyValueHeads * model.shape.headSize
    try SafetensorsWriter.write(
      [("\(prefix)\(modules).ia3_l", [outputs, 1], random.values(outputs, scale: 0.3).map { 1 + $0 })],
      to: ia3.appending(path: "adapter_model.safetensors"))
    let scaling = #"{"peft_type":"IA3","target_modules":["layers.1.self_attn.v_proj"],"feedforward_modules":[]}"#
    try Data(scaling.utf8).write(to: ia3.appending(path: "adapter_config.json"))
    return [
      try write("plain", model, base: base, mode: mode, fields: "", []),
      try write(
        "norms", model, base: base, mode: mode, fields: #","modules_to_save":["input_layernorm"]"#,
        (0..<model.shape.layers).map { try changed("model.layers.\($0).input_layernorm.weight", by: 0.3, seed: 1) }),
      try write(
        "last-norm", model, base: base, mode: mode, fields: #","modules_to_save":["model.norm"]"#,
        [try changed("model.norm.weight", by: 0.3, seed: 2)]),
      try write(
        "embedding", model, base: base, mode: mode, fields: #","modules_to_save":["embed_tokens"]"#,
        [try changed("model.embed_tokens.weight", by: 0.3, seed: 3)]),
      try write(
        "head", model, base: base, mode: mode, fields: #","modules_to_save":["lm_head"]"#,
        [try changed("lm_head.weight", by: 0.1, seed: 4)]),
      try write(
        "tokens", model, base: base, mode: mode,
        fields: ",\"trainable_token_indices\":[\((0..<vocabulary / 2).map(String.init).joined(separator: ","))]",
        [
          (
            "model.embed_tokens.token_adapter.trainable_tokens_delta", [vocabulary / 2, hidden],
            random.values(vocabulary / 2 * hidden, scale: 1)
          )
        ]),
      try Adapter(peft: ia3, base: base, mode: mode),
    ]
  }

  @Test(arguments: [ComputeMode.f32, .fast])
  func blocksBelongToOneAdapter(mode: ComputeMode) throws {
    let harness = try EngineHarness(mode: mode)
    let alone = try EngineHarness(
      mode: mode, settings: .init(cachesPrefixes: false, speculates: false), model: harness.model)
    let adapters = try Self.adapters(harness.model, base: harness.model.base(mode), mode: mode)
    let sets =
      [AdapterSet.none] + adapters.map { AdapterSet([($0, 1)]) }
      + [AdapterSet([(adapters[1], 0.5)]), AdapterSet([(adapters[3], 0.7), (adapters[6], -0.3)])]
    let prompt = EngineHarness.prompt(80, seed: 4)
    let requests = sets.map {
      GenerationRequest(
        prompt: prompt, adapters: $0, maxTokens: 6, sampling: .init(seed: 1), ignoresEndOfText: true, topLogprobs: 2)
    }
    let wanted = requests.flatMap { alone.run([$0]) }
    // Each computes something of its own, so that another's blocks would be seen.
    for index in wanted.indices { #expect(!wanted[..<index].contains(wanted[index]), "\(index)") }
    for (index, request) in requests.enumerated() {
      let outcome = harness.run([request])[0]
      #expect(outcome.cachedTokens == 0 && outcome == wanted[index], "\(index)")
    }
    for index in requests.indices.reversed() {
      let outcome = harness.run([requests[index]])[0]
      #expect(outcome.cachedTokens == 79 && outcome == wanted[index], "\(index)")
    }
    // All at once in the same passes, the cache filled by every one of them.
    #expect(harness.run(requests + requests) == wanted + wanted)
  }
}
