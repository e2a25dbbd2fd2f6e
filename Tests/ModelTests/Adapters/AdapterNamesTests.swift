import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// The names that programs beside PEFT give an adapter's tensors.
@Suite struct AdapterNamesTests {
  private typealias Tensor = (name: String, shape: [Int], values: [Float])

  private let model: TinyModel
  private let base: Base
  private let folder: URL
  private var weights: URL { folder.appending(path: "adapter_model.safetensors") }

  init() throws {
    model = try TinyModel(TinyShape(layers: 2))
    base = try model.base()
    folder = try model.writeAdapter("a", ranks: [.q: 3, .k: 2, .o: 2, .gate: 1, .up: 2, .down: 4], seed: 5).folder
  }

  private func updates(_ folder: URL) throws -> [PEFTAdapter.Update] {
    try PEFTAdapter.read(folder: folder, config: base.config).updates
  }

  private func tensors() throws -> [Tensor] {
    let file = try SafetensorsFile(weights)
    return try file.tensors.values.map { ($0.name, $0.shape, try file.floats($0.name)) }
  }

  /// Raw state dictionaries, and those that keep the adapter's name.
  @Test(arguments: [(true, false), (false, true), (true, true)])
  func prefixesAndTheAdaptersName(isRaw: Bool, hasName: Bool) throws {
    let plain = try updates(folder)
    let changed = try tensors().map { tensor -> Tensor in
      var name = tensor.name
      if isRaw { name.replace("base_model.model.", with: "", maxReplacements: 1) }
      if hasName { name.replace(".weight", with: ".default.weight") }
      #expect(name != tensor.name)
      return (name, tensor.shape, tensor.values)
    }
    try SafetensorsWriter.write(changed, to: weights)
    #expect(try updates(folder) == plain)
  }

  /// As torchtune's `hf_to_tune` makes them: [heads, 2, half] becomes [heads, half, 2].
  private func torchtuneTensors() throws -> [Tensor] {
    let names = [
      "self_attn.q_proj": "attn.q_proj", "self_attn.k_proj": "attn.k_proj", "self_attn.o_proj": "attn.output_proj",
      "mlp.gate_proj": "mlp.w1", "mlp.up_proj": "mlp.w3", "mlp.down_proj": "mlp.w2",
    ]
    let config = base.config
    return try tensors().map { tensor -> Tensor in
      var name = String(tensor.name.dropFirst("base_model.model.model.".count))
      for (old, new) in names { name.replace(old, with: new) }
      name = name.replacing("lora_A", with: "lora_a").replacing("lora_B", with: "lora_b")
      guard name.contains("lora_b"), name.contains("q_proj") || name.contains("k_proj") else {
        return (name, tensor.shape, tensor.values)
      }
      let (rows, rank) = (tensor.shape[0], tensor.shape[1])
      let size = rows / (name.contains("q_proj") ? config.headCount : config.keyValueHeadCount)
      let values = (0..<rows).flatMap { row in
        let (head, element) = row.quotientAndRemainder(dividingBy: size)
        let source = head * size + element % 2 * (size / 2) + element / 2
        return tensor.values[source * rank..<(source + 1) * rank]
      }
      return (name, tensor.shape, values)
    }
  }

  @Test func torchtunesNamesAndOrderOfRows() throws {
    let plain = try updates(folder)
    let changed = try torchtuneTensors()
    try SafetensorsWriter.write(changed, to: weights)
    let target = try TemporaryFolder()
    defer { target.remove() }
    #expect(try AdapterImport.rewrite(folder, to: target.url, config: base.config))
    #expect(try updates(target.url) == plain)
    // A name that torchtune does not write.
    try SafetensorsWriter.write(changed + [("layers.0.attn.x_proj.lora_a.weight", [1], [0])], to: weights)
    let message = modelError { _ = try AdapterImport.rewrite(folder, to: target.url, config: base.config) }
    #expect(message.contains("layers.0.attn.x_proj.lora_a.weight: is no factor that torchtune writes"))
  }

  /// A folder as MLX-LM writes it.
  private func mlx(_ json: String, _ change: (inout [Tensor]) -> Void = { _ in }) throws -> URL {
    let target = model.root.appending(path: "mlx-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
    var turned = try tensors().map { tensor -> Tensor in
      let (rows, columns) = (tensor.shape[0], tensor.shape[1])
      let name = tensor.name.dropFirst("base_model.model.".count).replacing("lora_A.weight", with: "lora_a")
        .replacing("lora_B.weight", with: "lora_b")
      let values = (0..<columns).flatMap { column in (0..<rows).map { tensor.values[$0 * columns + column] } }
      return (String(name), [columns, rows], values)
    }.sorted { $0.name < $1.name }
    change(&turned)
    try SafetensorsWriter.write(turned, to: target.appending(path: "adapters.safetensors"))
    try Data(json.utf8).write(to: target.appending(path: "adapter_config.json"))
    return target
  }

  private static let mlxConfiguration =
    #"{"fine_tune_type": "lora", "lora_parameters": {"rank": 3, "scale": 2.5, "dropout": 0.0}}"#

  @Test func anMLXAdapterIsReadOrRefusedWithTheTensor() throws {
    let plain = try updates(folder)
    func rewritten(_ source: URL) throws -> [PEFTAdapter.Update] {
      let target = try TemporaryFolder()
      defer { target.remove() }
      #expect(try AdapterImport.rewrite(source, to: target.url, config: base.config))
      return try updates(target.url)
    }
    let good = Self.mlxConfiguration
    let read = try rewritten(mlx(good))
    #expect(
      zip(read, plain).allSatisfy { $0.a == $1.a && $0.b == $1.b && $0.rank == $1.rank } && read.count == plain.count)
    #expect(read.allSatisfy { abs($0.scale - 2.5) < 1e-6 })

    let cases: [(String, (inout [Tensor]) -> Void, String)] = [
      (#"{"fine_tune_type": "full"}"#, { _ in }, "fine_tune_type: full is not supported"),
      (#"{"lora_parameters": {"rank": 3}}"#, { _ in }, "lora_parameters: has no scale"),
      (good, { $0[0].shape.reverse() }, "shapes"), (good, { $0.remove(at: 1) }, "lora_b: missing"),
      (good, { $0[0].name = "model.layers.9.mlp.up_proj.lora_a" }, "is no factor of a module of the base"),
    ]
    for (json, change, words) in cases {
      let message = modelError { _ = try rewritten(mlx(json, change)) }
      #expect(message.contains(words), "\(message)")
    }
  }

  /// With a tied head, factors of the embedding are the head's, too. Others of the head would take their place.
  @Test func aTiedHeadHasItsEmbeddingsFactorsOrItsOwn() throws {
    var config = base.config
    func factors(_ name: String, _ input: Int, _ output: Int) -> [Tensor] {
      [
        (name + ".lora_a", [input, 2], [Float](repeating: 1, count: 2 * input)),
        (name + ".lora_b", [2, output], [Float](repeating: 1, count: 2 * output)),
      ]
    }
    let embedding = factors("model.embed_tokens", config.vocabularySize, config.hiddenSize)
    let head = factors("lm_head", config.hiddenSize, config.vocabularySize)
    for (isTied, added, isRefused) in [
      (true, embedding + head, true), (false, embedding + head, false), (true, embedding, false), (true, head, false),
    ] {
      config.tiedHead = isTied
      let source = try mlx(Self.mlxConfiguration) { $0 += added }
      if isRefused {
        let message = modelError { _ = try MLXAdapter(source, config: config) }
        #expect(message.contains("lm_head.lora_a: the head is tied"), "\(message)")
      } else {
        let names = try MLXAdapter(source, config: config).factors.modules.map(\.name)
        #expect(names.count == Set(names).count && names.contains("lm_head"))
      }
    }
  }

  @Test(arguments: [true, false]) func damagedFilesThrowOnlyModelErrors(isMLX: Bool) throws {
    let source = isMLX ? try mlx(Self.mlxConfiguration) : folder
    if !isMLX { try SafetensorsWriter.write(try torchtuneTensors(), to: weights) }
    let files = ["adapter_config.json", isMLX ? "adapters.safetensors" : "adapter_model.safetensors"]
      .map { source.appending(path: $0) }
    let whole = try files.map { [UInt8](try Data(contentsOf: $0)) }
    var random = TinyRandom(seed: 6)
    var refused = 0
    for round in 0..<300 {
      let index = round % 3 == 0 ? 0 : 1
      // Names and shapes stand before the values.
      let head = min(whole[index].count, 2000)
      try Data(mutated(Array(whole[index][..<head]), using: &random) + whole[index][head...]).write(to: files[index])
      defer { try? Data(whole[index]).write(to: files[index]) }
      let target = try TemporaryFolder()
      defer { target.remove() }
      do {
        let isRewritten = try AdapterImport.rewrite(source, to: target.url, config: base.config)
        _ = try Adapter(peft: isRewritten ? target.url : source, base: base, mode: .f32)
      } catch is ModelError { refused += 1 }
    }
    #expect(refused > 100)
  }

  @Test func valuesThatAreNoNumbersAreRefused() throws {
    let target = try TemporaryFolder()
    defer { target.remove() }
    let source = try mlx(Self.mlxConfiguration) { $0[0].values[3] = .infinity }
    #expect(try AdapterImport.rewrite(source, to: target.url, config: base.config))
    let message = modelError { _ = try Adapter(peft: target.url, base: base, mode: .f32) }
    #expect(message.contains("has values that are not finite"), "\(message)")
  }

  @Test func aPickleIsRefusedInEveryForm() throws {
    try FileManager.default.moveItem(at: weights, to: folder.appending(path: "adapter_model.bin"))
    #expect(!AdapterImport.isNeeded(folder))
    #expect(modelError { _ = try updates(folder) }.hasPrefix("adapter_model.bin: pickle files are not read"))
  }
}
