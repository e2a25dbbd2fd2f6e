import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// What is refused of the parts beside factors of projections, with which words.
@Suite struct AdapterRefusalTests {
  private typealias Tensors = [(name: String, shape: [Int], values: [Float])]

  /// A copy of a form that a test may change.
  private final class Copy {
    let folder: URL
    let base: Base
    private let fixture: ArchitectureFixture
    private let temporary: TemporaryFolder

    init(_ name: String) throws {
      let form = try AdapterForm(name)
      fixture = try ArchitectureFixture(form.model)
      base = try fixture.base(fixture.source())
      temporary = try TemporaryFolder()
      folder = temporary.url.appending(path: name)
      try FileManager.default.copyItem(at: form.folder, to: folder)
    }

    deinit { temporary.remove() }

    func replace(_ text: String, with other: String) throws {
      let url = folder.appending(path: "adapter_config.json")
      let old = try String(contentsOf: url, encoding: .utf8)
      try #require(old.contains(text), "\(old)")
      try Data(old.replacing(text, with: other).utf8).write(to: url)
    }

    func change(_ file: String = "adapter_model.safetensors", _ body: (inout Tensors) -> Void) throws {
      let url = folder.appending(path: file)
      let read = try SafetensorsFile(url)
      var tensors = try read.tensors.values.sorted { $0.name < $1.name }.map {
        (name: $0.name, shape: $0.shape, values: try read.floats($0.name))
      }
      body(&tensors)
      try SafetensorsWriter.write(tensors, to: url)
    }

    var message: String { modelError { _ = try Adapter(peft: folder, base: base, mode: .fast) } }
  }

  @Test(arguments: [
    ("saved-norms", "\"norm\"", "\"mlp\"", "modules_to_save: mlp is not supported"),
    ("saved-norms", "\"norm\"", "\"q_proj\"", "modules_to_save: q_proj is not supported"),
    ("saved-norms", "\"norm\"", "\"score\"", "modules_to_save: score is no module of the base"),
    ("tokens-tied", "60,", "64,", "trainable_token_indices: has ids that come twice"),
    ("tokens-tied", "60,", "3,", "trainable_token_indices: has ids that come twice"),
    ("tokens-both", "\"lm_head\": [", "\"score\": [", "trainable_token_indices: score is neither"),
    ("lora-tables", "\"use_dora\": false", "\"use_dora\": true", "target_modules: model.embed_tokens is targeted"),
    ("lora-bias", "\"use_dora\": false", "\"use_dora\": true", "lora_bias: cannot go with use_dora"),
    ("ia3", "\"k_proj\"", "\"nothing\"", "is no"),
    ("ia3-all", "\"feedforward_modules\": [", "\"feedforward_modules\": [\"gate_proj\", ", "feedforward_modules: "),
    ("set-a", "\"layer_replication\": null", "\"layer_replication\": [[0, 1]]", "layer_replication: is not supported"),
    ("set-a", "\"fan_in_fan_out\": false", "\"fan_in_fan_out\": \"x\"", "fan_in_fan_out: "),
    (
      "set-a", "\"init_lora_weights\": true", "\"init_lora_weights\": \"loftq\"",
      "init_lora_weights: loftq is not supported: the adapter is for the base that LoftQ"
    ),
  ]) func fields(name: String, text: String, other: String, words: String) throws {
    let copy = try Copy(name)
    if words == "is no" {
      // A target without a tensor, or a tensor without a target.
      try copy.replace(text, with: other)
      #expect(copy.message.contains("unexpected: the configuration does not target it"))
      return
    }
    try copy.replace(text, with: other)
    #expect(copy.message.hasPrefix("adapter_config.json: \(words)"), "\(copy.message)")
  }

  /// Tensors of other shapes are refused before anything is read of them.
  @Test(arguments: [
    "saved-tables", "saved-norms", "lora-tables", "lora-head-dora", "lora-bias", "base-biases", "tokens-both",
    "ia3-all",
  ]) func shapesAndValues(name: String) throws {
    let whole = try AdapterForm(name).folder.appending(path: "adapter_model.safetensors")
    let names = try SafetensorsFile(whole).tensors.keys.sorted()
    for tensor in names where !tensor.contains(".layers.0.") {
      for change in 0..<3 {
        let copy = try Copy(name)
        try copy.change { tensors in
          guard let index = tensors.firstIndex(where: { $0.name == tensor }) else { return }
          switch change {
          case 0:
            tensors[index].shape = [tensors[index].values.count + 1]
            tensors[index].values.append(0)
          case 1: tensors[index].values[tensors[index].values.count - 1] = .nan
          default: tensors.remove(at: index)
          }
        }
        let wanted = ["shape [", "has values that are not finite", "missing"][change]
        // The base's own biases and copies of tables may be there or not.
        if change == 2, tensor.contains(".bias") || tensor.contains("base_layer") { continue }
        #expect(copy.message.contains(wanted), "\(tensor) \(change): \(copy.message)")
      }
    }
  }

  /// Whatever is damaged in the names, shapes and fields, only errors of the model's come of it.
  @Test(arguments: [
    "saved-tables", "saved-head-norms", "lora-tables", "lora-bias", "base-biases-dora", "tokens-both", "ia3-all",
    "pissa",
  ]) func damagedFilesThrowOnlyModelErrors(name: String) throws {
    let copy = try Copy(name)
    let files = ["adapter_config.json", "adapter_model.safetensors"].map { copy.folder.appending(path: $0) }
    let whole = try files.map { [UInt8](try Data(contentsOf: $0)) }
    var random = TinyRandom(seed: 4)
    var refused = 0
    for round in 0..<120 {
      let index = round % 3 == 0 ? 0 : 1
      let head = min(whole[index].count, 2500)
      try Data(mutated(Array(whole[index][..<head]), using: &random) + whole[index][head...]).write(to: files[index])
      defer { try? Data(whole[index]).write(to: files[index]) }
      let target = try TemporaryFolder()
      defer { target.remove() }
      do {
        let isRewritten = try AdapterImport.rewrite(copy.folder, to: target.url, config: copy.base.config)
        _ = try Adapter(peft: isRewritten ? target.url : copy.folder, base: copy.base, mode: .f32)
      } catch is ModelError { refused += 1 }
    }
    #expect(refused > 40)
  }

  @Test(arguments: [
    ("saved-norms", "modules_to_save"), ("tokens-tied", "trainable_token_indices"), ("lora-bias", "lora_bias"),
    ("ia3", "peft_type"), ("lora-embedding-alone", "target_modules"), ("base-biases", "k_proj.bias"),
    ("saved-tables", "lm_head.weight"),
  ]) func trainingNamesWhatItCannotContinue(name: String, words: String) throws {
    let copy = try Copy(name)
    let message = modelError { _ = try PEFTAdapter.read(folder: copy.folder, config: copy.base.config) }
    #expect(message.contains(words), "\(message)")
  }

  /// A norm that a layout has and the adapter has not is an error: nothing is left as it was in memory.
  @Test func aNormThatIsMissingIsNamed() throws {
    let copy = try Copy("saved-norms")
    let converter = try AdapterConverter(peft: try AdapterForm("set-a").folder, base: copy.base, element: .f32)
    let layout = OtherLayout(OtherEntries(norms: [-1, 0]), config: copy.base.config, element: .f32)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: layout.length, alignment: 64)
    defer { memory.deallocate() }
    var scales: [Float] = []
    for (section, words) in zip(layout.sections, ["the last norm: is not in", "attentionInput of layer 0: is not in"]) {
      let message = modelError { try converter.convert(section, of: layout, into: memory, scales: &scales) }
      #expect(message.contains(words), "\(message)")
    }
  }

  // MARK: other forms

  private func rewritten(_ copy: Copy) -> String {
    modelError {
      let target = try TemporaryFolder()
      defer { target.remove() }
      _ = try AdapterImport.rewrite(copy.folder, to: target.url, config: copy.base.config)
    }
  }

  @Test func anInitialAdapterMustFit() throws {
    for (change, words) in [(0, "missing"), (1, "beside")] {
      let copy = try Copy("pissa")
      try copy.change("initial_adapter/adapter_model.safetensors") { tensors in
        if change == 0 { tensors.removeLast() } else { tensors[0].shape.reverse() }
      }
      #expect(rewritten(copy).contains(words))
    }
    let copy = try Copy("pissa")
    try copy.replace("\"lora_alpha\": 4", with: "\"lora_alpha\": 8")
    #expect(rewritten(copy) == "adapter_config.json: lora_alpha: differs from the initial adapter's")
    try FileManager.default.removeItem(at: copy.folder.appending(path: "initial_adapter"))
    #expect(!AdapterImport.isNeeded(copy.folder))
    #expect(copy.message.contains("path_initial_model_for_weight_conversion"), "\(copy.message)")
  }

  @Test func damagedGGUFFilesThrowOnlyModelErrors() throws {
    let copy = try Copy("gguf")
    let url = copy.folder.appending(path: "adapter.gguf")
    let bytes = [UInt8](try Data(contentsOf: url))
    var random = TinyRandom(seed: 3)
    for round in 0..<500 {
      let head = mutated(Array(bytes[..<2500]), using: &random)
      try Data(
        round % 5 == 0 ? Array(bytes[..<Int.random(in: 0..<bytes.count, using: &random)]) : head + bytes[2500...]
      )
      .write(to: url)
      let target = try TemporaryFolder()
      defer { target.remove() }
      do {
        guard try AdapterImport.rewrite(copy.folder, to: target.url, config: copy.base.config) else { continue }
        _ = try Adapter(peft: target.url, base: copy.base, mode: .f32)
      } catch is ModelError {}
    }
  }
}
