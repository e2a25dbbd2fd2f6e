import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// Adapters in forms that PEFT loads with unchanged results, and what is no PEFT adapter.
@Suite struct PEFTVariantsTests {
  private typealias Tensor = (name: String, shape: [Int], values: [Float])

  private let model: TinyModel
  private let base: Base
  private let adapter: TinyAdapter

  init() throws {
    model = try TinyModel(TinyShape(layers: 1))
    base = try model.base()
    adapter = try model.writeAdapter("a", ranks: [.q: 3, .down: 2], seed: 4, usesDoRA: true)
  }

  private var weights: URL { adapter.folder.appending(path: "adapter_model.safetensors") }
  private var configuration: URL { adapter.folder.appending(path: "adapter_config.json") }

  private func loaded(_ mode: ComputeMode = .f32) throws -> [PEFTAdapter.Update] {
    // Both that serve and that train read it so.
    _ = try Adapter(peft: adapter.folder, base: mode == .f32 ? base : try model.base(mode), mode: mode)
    let reader = try PEFTReader(folder: adapter.folder, config: base.config, scope: .all)
    return try reader.projections.map(reader.update)
  }

  private func changeTensors(_ change: (inout [Tensor]) -> Void) throws {
    let file = try SafetensorsFile(weights)
    var tensors = try file.tensors.values.sorted { $0.name < $1.name }.map { tensor -> Tensor in
      (tensor.name, tensor.shape, try file.floats(tensor.name))
    }
    change(&tensors)
    try SafetensorsWriter.write(tensors, to: weights)
  }

  private func addFields(_ fields: String) throws {
    let text = try String(contentsOf: configuration, encoding: .utf8)
      .replacingOccurrences(of: "\"bias\":\"none\",", with: "")
    try Data((text.dropLast() + ", " + fields + "}").utf8).write(to: configuration)
  }

  @Test(arguments: [
    "\"init_lora_weights\": \"eva\", \"eva_config\": {\"rho\": 2.0}", "\"init_lora_weights\": false",
    "\"bias\": \"lora_only\"", "\"bias\": \"all\"", "\"loftq_config\": {\"loftq_bits\": 4}",
    "\"corda_config\": {\"x\": 1}", "\"runtime_config\": {\"ephemeral_gpu_offload\": false}",
    "\"ensure_weight_tying\": true", "\"modules_to_save\": null", "\"from_the_future\": \"\"",
    "\"from_the_future\": {}", "\"from_the_future\": false",
  ]) func acceptsFields(fields: String) throws {
    let plain = try loaded()
    try addFields(fields)
    #expect(try loaded() == plain)
  }

  @Test func aByteOrderMarkIsSkipped() throws {
    let plain = try loaded()
    try Data([0xEF, 0xBB, 0xBF] + (try Data(contentsOf: configuration))).write(to: configuration)
    #expect(try loaded() == plain)
  }

  @Test(arguments: [
    "lora_magnitude_vector.default.weight", "lora_magnitude_vector.default", "lora_magnitude_vector.weight",
  ])
  func theAdaptersNameInsideNamesIsSkipped(magnitude: String) throws {
    let plain = try loaded()
    try changeTensors { tensors in
      for index in tensors.indices {
        tensors[index].name = tensors[index].name.replacing(".weight", with: ".default.weight")
          .replacing("lora_magnitude_vector", with: magnitude)
      }
    }
    #expect(try SafetensorsFile(weights).tensors.keys.allSatisfy { $0.contains("default") || $0.hasSuffix(magnitude) })
    #expect(try loaded() == plain)
  }

  // MARK: copies of the base's own

  private static let embedding = "base_model.model.model.embed_tokens.weight"
  private static let head = "base_model.model.lm_head.weight"

  private func published(_ copy: String) throws -> (shape: [Int], values: [Float]) {
    try #require(model.tensors[copy == Self.head ? "lm_head.weight" : "model.embed_tokens.weight"])
  }

  @Test(arguments: [embedding, head], [ComputeMode.f32, .fast])
  func aCopyOfTheBasesOwnTakesNoMemoryAndAnythingElseIsApplied(copy: String, mode: ComputeMode) throws {
    let plain = try loaded(mode)
    let tensor = try published(copy)
    try addFields("\"modules_to_save\": [\"\(copy == Self.head ? "lm_head" : "embed_tokens")\"]")
    try changeTensors { $0.append((copy, tensor.shape, tensor.values)) }
    #expect(try loaded(mode) == plain)
    func others() throws -> OtherChanges? {
      try Adapter(peft: adapter.folder, base: mode == .f32 ? base : try model.base(mode), mode: mode).others
    }
    #expect(try others() == nil)

    var values = tensor.values
    values[values.count - 3] += 0.01
    try changeTensors { tensors in
      tensors.removeAll { $0.name == copy }
      tensors.append((copy, tensor.shape, values))
    }
    let changed = try #require(try others())
    let tokens = copy == Self.head ? changed.head?.tokens : changed.embedding?.tokens
    #expect(tokens?.count == 1 && tokens?.ids[0] == 299)
    #expect((changed.head == nil) == (copy != Self.head) && (changed.embedding == nil) == (copy == Self.head))

    try changeTensors { tensors in
      tensors.removeAll { $0.name == copy }
      tensors.append((copy, [tensor.shape[0] - 1, tensor.shape[1]], Array(values.dropLast(tensor.shape[1]))))
    }
    #expect(modelError { _ = try loaded(mode) }.contains("\(copy): shape"))
    // Whoever has no base cannot compare.
    #expect(modelError { _ = try PEFTAdapter.read(folder: adapter.folder, config: base.config) }.contains(copy))
  }

  @Test func aCopyOfATiedHeadIsComparedWithTheEmbedding() throws {
    let tied = try TinyModel(TinyShape(layers: 1, isTied: true))
    let folder = try tied.writeAdapter("t", ranks: [.q: 2], seed: 1).folder
    let file = folder.appending(path: "adapter_model.safetensors")
    let read = try SafetensorsFile(file)
    var tensors = try read.tensors.values.map { tensor -> Tensor in
      (tensor.name, tensor.shape, try read.floats(tensor.name))
    }
    let embedding = try #require(tied.tensors["model.embed_tokens.weight"])
    tensors.append((Self.head, embedding.shape, embedding.values))
    try SafetensorsWriter.write(tensors, to: file)
    _ = try Adapter(peft: folder, base: try tied.base(), mode: .f32)
  }

  // MARK: what is no PEFT adapter

  private func message() -> String { modelError { _ = try loaded() } }

  @Test func anMLXAdapterIsNamed() throws {
    let fields = #"{"fine_tune_type":"lora","lora_parameters":{"rank":8,"dropout":0.0,"scale":20.0},"num_layers":16}"#
    try Data(fields.utf8).write(to: configuration)
    #expect(message().hasPrefix("adapter_config.json: is of an MLX-LM adapter"))
  }

  @Test(arguments: [
    ("adapters.safetensors", "holds an MLX-LM adapter"), ("adapter_model.bin", "adapter_model.bin: pickle files"),
    ("lora.gguf", "lora.gguf: is an adapter in GGUF"),
  ]) func weightsOfOtherProgramsAreNamed(file: String, reason: String) throws {
    try FileManager.default.moveItem(at: weights, to: adapter.folder.appending(path: file))
    #expect(message().contains(reason), "\(message())")
  }

  @Test func aGGUFAdapterIsNamedAsAFolderAndAsAFile() throws {
    try FileManager.default.moveItem(at: weights, to: adapter.folder.appending(path: "lora.gguf"))
    try FileManager.default.removeItem(at: configuration)
    #expect(message().hasPrefix("lora.gguf: is an adapter in GGUF"))
    let file = adapter.folder.appending(path: "lora.gguf")
    #expect(
      modelError { _ = try Adapter(peft: file, base: base, mode: .f32) }
        .hasPrefix("lora.gguf: is an adapter in GGUF"))
    let other = adapter.folder.appending(path: "x.safetensors")
    try Data().write(to: other)
    #expect(modelError { _ = try Adapter(peft: other, base: base, mode: .f32) }.hasPrefix("x.safetensors: is a file"))
  }

  @Test(arguments: ["adapter_model.safetensors", "adapter_config.json"]) func aGitLFSPointerIsNamed(file: String) throws
  {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    try Data(pointer.utf8).write(to: adapter.folder.appending(path: file))
    #expect(message().hasPrefix("\(file): is a Git LFS pointer"))
  }
}
