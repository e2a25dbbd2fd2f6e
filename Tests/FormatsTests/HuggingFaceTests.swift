import Foundation
import Kernels
import TestSupport
import Testing

@testable import Formats

/// Held to folders of known weights (scripts/fixtures/hf_fixtures.py).
@Suite struct HuggingFaceTests {
  private func folder(_ name: String) -> URL { formatFixture("hf/\(name)") }

  @Test(arguments: [("f32", true), ("f16", false), ("bf16", false)])
  func readsEveryTensor(name: String, tied: Bool) throws {
    let source = try #require(try openPublishedModel(at: folder(name)) as? HuggingFaceModel)
    let expected = try SafetensorsFile(folder("f32").appendingPathComponent("model.safetensors"))
    #expect(source.config.tiedHead == tied)
    #expect((source.shape(of: "lm_head.weight") == nil) == tied)
    #expect(expected.tensors.count == 2 + 2 * 9)
    for (key, tensor) in expected.tensors {
      #expect(source.shape(of: key) == tensor.shape)
      let values = try expected.floats(key)
      #expect(try bits(source.floats(key)) == bits(values), "\(key)")
      #expect(try source.nf4(key) == nil)
      guard tensor.shape.count == 2 else { continue }
      let columns = tensor.shape[1]
      #expect(try source.floats(key, rows: 2..<5) == Array(values[(2 * columns)..<(5 * columns)]))
    }
  }

  @Test func readsConfigurations() throws {
    var expected = ModelConfig(
      vocabularySize: 20, hiddenSize: 16, intermediateSize: 24, layerCount: 2, headCount: 2, keyValueHeadCount: 1,
      headSize: 8, contextLength: 256, rmsNormEpsilon: 1e-5, rope: RoPEParameters(theta: 100_000), tiedHead: true,
      bosToken: 1, eosTokens: [2])
    #expect(try HuggingFaceModel(folder("f32")).config == expected)
    expected.tiedHead = false
    expected.rope = RoPEParameters(theta: 10_000, scaling: .linear(factor: 2))
    #expect(try HuggingFaceModel(folder("f16")).config == expected)
    expected.rope = RoPEParameters(
      theta: 500_000,
      scaling: .llama3(factor: 32, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 64))
    expected.eosTokens = [2, 3, 5]
    #expect(try HuggingFaceModel(folder("bf16")).config == expected)
  }

  @Test func listsTheFilesThatDefineTheModel() throws {
    let names = try HuggingFaceModel(folder("f16")).files.map(\.lastPathComponent)
    #expect(
      names == [
        "config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
      ])
    #expect(
      try HuggingFaceModel(folder("bf16")).files.map(\.lastPathComponent)
        == ["config.json", "generation_config.json", "model.safetensors"])
  }

  @Test(arguments: ["nf4", "nf4-nested"]) func readsBitsAndBytes(name: String) throws {
    let source = try HuggingFaceModel(folder(name))
    let expected = try SafetensorsFile(folder(name).appendingPathComponent("expected.safetensors"))
    let stored = try SafetensorsFile(folder(name).appendingPathComponent("model.safetensors"))
    #expect(expected.tensors.count == 2 + 9)
    for (key, tensor) in expected.tensors {
      let shape = try #require(source.shape(of: key))
      let whole = try source.floats(key)
      guard key.contains("proj") else {
        #expect(try whole == expected.floats(key))
        continue
      }
      let starts = [0, shape[0] / 2 - 4, shape[0] - 8]
      let rows = Set(starts.flatMap { $0..<($0 + 8) }).sorted()
      #expect(tensor.shape[0] == rows.count)
      let wanted = try expected.floats(key)
      let columns = shape[1]
      for (index, row) in rows.enumerated() {
        let values = Array(whole[(row * columns)..<((row + 1) * columns)])
        #expect(try bits(source.floats(key, rows: row..<(row + 1))) == bits(values))
        for (value, reference) in zip(values, wanted[(index * columns)..<((index + 1) * columns)]) {
          // Scales that were quantised may differ in their last bit.
          let tolerance = name == "nf4" ? 0 : 1e-6 * abs(reference)
          #expect(abs(value - reference) <= tolerance)
        }
      }
      let codes = try #require(try source.nf4(key))
      #expect(codes.shape == shape && codes.blockSize == 64)
      #expect(try codes.packed == stored.bytes(key))
      #expect(NF4.dequantize(packed: codes.packed, absmax: codes.absmax, count: shape[0] * columns) == whole)
    }
  }

  // MARK: Refusals

  /// A copy of a fixture, with its config.json changed.
  private func copy(_ name: String, replacing: [(String, String)] = []) throws -> TemporaryFolder {
    let copy = try TemporaryFolder()
    for file in try FileManager.default.contentsOfDirectory(at: folder(name), includingPropertiesForKeys: nil) {
      _ = try copy.write(file.lastPathComponent, [UInt8](Data(contentsOf: file)))
    }
    let config = copy.url.appendingPathComponent("config.json")
    var text = try String(contentsOf: config, encoding: .utf8)
    for (old, new) in replacing {
      #expect(text.contains(old), "\(old)")
      text = text.replacingOccurrences(of: old, with: new)
    }
    _ = try copy.write("config.json", text)
    return copy
  }

  @Test(arguments: [
    ("\"model_type\": \"llama\"", "\"model_type\": \"qwen2_moe\"", "model_type: qwen2_moe is not supported"),
    ("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act: gelu is not supported"),
    ("\"rope_type\": \"default\"", "\"rope_type\": \"proportional\"", "rope_type: proportional is not supported"),
    ("\"rope_type\": \"default\"", "\"rope_type\": \"dynamic\"", "rope_parameters: factor: missing"),
    ("\"rope_type\": \"default\"", "\"rope_type\": \"longrope\"", "rope_parameters: short_factor: missing"),
    ("\"rope_type\": \"default\"", "\"mrope_section\": [1]", "rope_parameters: mrope_section: is not supported"),
    ("\"rope_type\": \"default\"", "\"rope_type\": \"dynamic\", \"factor\": -1e30", "RoPE factor: -1e+30 is less"),
    ("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\", \"factor\": -1e300", "RoPE factor: -inf is not"),
    (
      "\"num_hidden_layers\": 2", "\"num_hidden_layers\": -9223372036854775808",
      "num_hidden_layers: -9223372036854775808 is not from 1 to 4096"
    ),
    ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4611686018427387904", "is not from 1 to 4096"),
    ("\"head_dim\": 8", "\"head_dim\": 7", "head size: 7 is odd"),
    ("\"head_dim\": 8", "\"head_dim\": -8", "head size: -8, which is not positive"),
    ("\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3", "head count: 2 is no multiple"),
    ("\"num_attention_heads\": 2", "\"num_attention_heads\": 0", "num_attention_heads: 0, which is not positive"),
    ("\"hidden_size\": 16", "\"hidden_size\": 4611686018427387904", "hidden size: 4611686018427387904, more than"),
    ("\"hidden_size\": 16", "\"hidden_size\": \"16\"", "hidden_size: is not an integer"),
    ("\"vocab_size\": 20", "\"vocabulary\": 20", "vocab_size: missing"),
    ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "RMS norm epsilon: 0.0 is not between"),
    ("\"eos_token_id\": 2", "\"eos_token_id\": [2, 20]", "eos token: 20 is outside"),
    ("\"eos_token_id\": 2", "\"eos_token_id\": 2.5", "eos_token_id: is neither"),
    ("\"mlp_bias\": false", "\"quantization_config\": {\"quant_method\": \"hqq\"}", "quant_method: hqq is not"),
    (
      "\"mlp_bias\": false", "\"quantization_config\": {\"load_in_8bit\": true, \"load_in_4bit\": true}",
      "load_in_8bit: together"
    ),
    (
      "\"mlp_bias\": false", "\"quantization_config\": {\"load_in_4bit\": true, \"bnb_4bit_quant_type\": \"e4\"}",
      "quant_type: e4 is not"
    ),
    ("\"mlp_bias\": false", "\"mlp_bias\": false, \"mlp_bias\": false", "malformed JSON"),
  ]) func refusesConfigurations(old: String, new: String, reason: String) throws {
    let copy = try copy("f32", replacing: [(old, new)])
    defer { copy.remove() }
    let message = modelError { _ = try openPublishedModel(at: copy.url) }
    #expect(message.hasPrefix("config.json: ") && message.contains(reason), "\(message)")
  }

  /// Its rule makes a list of layers.
  @Test(arguments: ["-9223372036854775808", "4611686018427387904"]) func smolLM3NeedsLayers(layers: String) throws {
    let copy = try copy(
      "f32",
      replacing: [("\"llama\"", "\"smollm3\""), ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": \(layers)")])
    defer { copy.remove() }
    #expect(
      modelError { _ = try HuggingFaceModel(copy.url) }
        == "config.json: num_hidden_layers: \(layers) is not from 1 to 4096")
  }

  @Test(arguments: ["attention_bias", "mlp_bias"]) func biasesThatTheFieldsPromiseMustBeThere(field: String) throws {
    let copy = try copy("f32", replacing: [("\"\(field)\": false", "\"\(field)\": true")])
    defer { copy.remove() }
    let message = modelError { _ = try HuggingFaceModel(copy.url) }
    #expect(message.hasPrefix("model.safetensors: model.layers.0.") && message.hasSuffix("_proj.bias: missing"))
  }

  @Test func namesTensorsThatDoNotFit() throws {
    let larger = try copy("f32", replacing: [("\"intermediate_size\": 24", "\"intermediate_size\": 25")])
    defer { larger.remove() }
    #expect(
      modelError { _ = try HuggingFaceModel(larger.url) }
        == "model.safetensors: model.layers.0.mlp.down_proj.weight: shape [16, 24] instead of [16, 25]")
    let deeper = try copy("f32", replacing: [("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")])
    defer { deeper.remove() }
    #expect(
      modelError { _ = try HuggingFaceModel(deeper.url) }
        == "model.safetensors: model.layers.2.input_layernorm.weight: missing")
    let shallower = try copy("f32", replacing: [("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1")])
    defer { shallower.remove() }
    #expect(
      modelError { _ = try HuggingFaceModel(shallower.url) }
        == "model.safetensors: model.layers.1.input_layernorm.weight: unknown tensor")
    let untied = try copy("f32", replacing: [("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false")])
    defer { untied.remove() }
    #expect(
      modelError { _ = try HuggingFaceModel(untied.url) } == "model.safetensors: lm_head.weight: missing")
  }

  @Test func namesShardsThatDoNotFit() throws {
    let shard = "model-00002-of-00002.safetensors"
    let missing = try copy("f16")
    defer { missing.remove() }
    try FileManager.default.removeItem(at: missing.url.appendingPathComponent(shard))
    #expect(modelError { _ = try HuggingFaceModel(missing.url) }.contains(shard))

    let cut = try copy("f16")
    defer { cut.remove() }
    let bytes = [UInt8](try Data(contentsOf: cut.url.appendingPathComponent(shard)))
    _ = try cut.write(shard, bytes.dropLast(2))
    let message = modelError { _ = try HuggingFaceModel(cut.url) }
    #expect(message.hasPrefix("\(shard): ") && message.contains("truncated"))

    let escaping = try copy("f16")
    defer { escaping.remove() }
    let name = "model.safetensors.index.json"
    let index = try String(contentsOf: escaping.url.appendingPathComponent(name), encoding: .utf8)
    for other in [
      "../\(shard)", "/etc/passwd", "..", "a/b.safetensors", "a/\u{338}b.safetensors", ".hidden.safetensors",
    ] {
      _ = try escaping.write(name, index.replacingOccurrences(of: shard, with: other))
      #expect(modelError { _ = try HuggingFaceModel(escaping.url) }.contains("is not in a safetensors file of this"))
    }
  }

  /// The limit of headers holds for all files together.
  @Test func filesShareTheLimitOfHeaders() throws {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    let lengths = try names.map { try SafetensorsFile(folder("f16").appendingPathComponent($0)).headerLength }
    let sum = lengths.reduce(0, +)
    #expect(try SafetensorsFolder(folder("f16"), naming: { $0 }, headerLimit: sum).names.count == 21)
    let message = modelError { _ = try SafetensorsFolder(folder("f16"), naming: { $0 }, headerLimit: sum - 1) }
    #expect(message == "\(names[1]): its header and those of the files before it have more than \(sum - 1) bytes")
  }

  @Test func aFileCutWhileItIsReadIsAnError() throws {
    let copy = try copy("f32")
    defer { copy.remove() }
    let source = try HuggingFaceModel(copy.url)
    let handle = try FileHandle(forWritingTo: copy.url.appendingPathComponent("model.safetensors"))
    try handle.truncate(atOffset: 4096)
    let message = modelError {
      for name in source.config.tensorShapes().keys { _ = try source.floats(name) }
    }
    #expect(message.hasPrefix("model.safetensors: truncated"))
  }

  @Test func namesWhatIsNoModel() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    #expect(modelError { _ = try openPublishedModel(at: folder.url) }.contains("has no config.json"))
    let text = try folder.write("m.gguf", "not this")
    #expect(modelError { _ = try openPublishedModel(at: text) }.contains("is not a GGUF file"))
    #expect(
      modelError { _ = try openPublishedModel(at: folder.url.appendingPathComponent("x")) }.contains("no such file"))
    _ = try folder.write("adapter_config.json", "{}")
    #expect(modelError { _ = try openPublishedModel(at: folder.url) }.contains("is a LoRA adapter"))
    #expect(try openPublishedModel(at: formatFixture("llama.gguf")) is GGUFModel)
  }

  @Test func damagedFilesThrowOnlyModelErrors() throws {
    var generator = TinyRandom(seed: 3)
    for name in ["f16", "nf4-nested"] {
      let copy = try copy(name)
      defer { copy.remove() }
      let weights = name == "f16" ? "model-00001-of-00002.safetensors" : "model.safetensors"
      let files = ["config.json", weights] + (name == "f16" ? ["model.safetensors.index.json"] : [])
      for file in files {
        let original = [UInt8](try Data(contentsOf: copy.url.appendingPathComponent(file)))
        let head = min(original.count, 6000)
        for round in 0..<400 {
          let damaged =
            round % 4 == 0
            ? mutated(original, using: &generator)
            : mutated(Array(original[..<head]), using: &generator) + original[head...]
          _ = try copy.write(file, damaged)
          do {
            let source = try HuggingFaceModel(copy.url)
            for tensor in source.config.tensorShapes().keys { _ = try source.floats(tensor) }
            for tensor in source.config.tensorShapes().keys { _ = try source.nf4(tensor) }
          } catch is ModelError {}
        }
        _ = try copy.write(file, original)
      }
    }
  }
}
