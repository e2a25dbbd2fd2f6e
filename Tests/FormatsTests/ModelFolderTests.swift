import Model
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Formats

/// What lies in a model's folder is honoured or refused by name, and what is missing or is no model is said.
@Suite struct ModelFolderTests {
  /// A model whose config.json has some fields more.
  private func model(_ fields: String, _ shape: TinyShape = TinyShape(layers: 1)) throws -> TinyModel {
    let model = try TinyModel(shape)
    let url = model.folder.appending(path: "config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    // The fields take the place of those that the configuration has already.
    var object = try #require(try JSONValue.parse(Array(text.utf8), subject: "config").object).pairs
    let added = try #require(try JSONValue.parse(Array("{\(fields)}".utf8), subject: "fields").object).pairs
    object.removeAll { pair in added.contains { $0.key == pair.key } }
    try Data(JSONValue.object(JSONObject(keepingFirst: object + added)).encoded).write(to: url)
    return model
  }

  @Test(arguments: [
    "\"attn_logit_softcapping\": 30.0", "\"final_logit_softcapping\": 30", "\"query_pre_attn_scalar\": 32",
    "\"embedding_multiplier\": 12", "\"logits_scaling\": 8.0", "\"residual_multiplier\": 0.2", "\"scale_emb\": 12",
    "\"num_local_experts\": 8", "\"n_routed_experts\": 4", "\"use_qk_norm\": true", "\"clip_qkv\": 8",
    "\"rope_interleaved\": true", "\"no_rope_layers\": [1]", "\"attention_chunk_size\": 16",
    "\"layer_types\": [\"chunked_attention\"]", "\"partial_rotary_factor\": 0.5", "\"rotary_pct\": 0.25",
    "\"qkv_bias\": true", "\"is_encoder_decoder\": true", "\"quantization\": {\"bits\": 4}",
    "\"compression_config\": {\"format\": \"x\"}", "\"sliding_window\": 0",
    "\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2.0, \"alpha\": 1000}",
    "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.0, \"attention_factor\": 1.5}",
    "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 10000.0}}",
  ]) func refusesFieldsByName(field: String) throws {
    let name = try #require(field.split(separator: "\"").first)
    let model = try model(field)
    let message = modelError { _ = try model.source() }
    #expect(message.hasPrefix("config.json: \(name): "), "\(message)")
  }

  @Test(arguments: [
    "\"attn_logit_softcapping\": null", "\"embedding_multiplier\": 1.0", "\"num_local_experts\": 0",
    "\"rope_interleaved\": false", "\"pretraining_tp\": 1", "\"layer_types\": [\"full_attention\"]",
    "\"partial_rotary_factor\": 1.0", "\"hidden_act\": \"swish\"", "\"use_cache\": true", "\"attention_dropout\": 0.0",
    "\"sliding_window\": 512", "\"sliding_window\": 16, \"use_sliding_window\": false",
    "\"architectures\": [\"LlamaForCausalLM\"]", "\"model_type\": \"mistral\", \"sliding_window\": 512",
    "\"model_type\": \"mistral\", \"sliding_window\": null",
  ]) func acceptsFieldsThatChangeNothing(field: String) throws {
    let plain = try TinyModel(TinyShape(layers: 1))
    let model = try model(field)
    #expect(try model.source().config == plain.source().config)
  }

  /// Llama's class has no window, but its cache honours the field.
  @Test func aSlidingWindowLimitsLlamasContext() throws {
    let config = try model("\"model_type\": \"llama\", \"sliding_window\": 64").source().config
    #expect(config.contextLength == 64 && config.slidingWindow == 64)
  }

  @Test func aSlidingWindowIsMistrals() throws {
    let config = try model("\"model_type\": \"mistral\", \"sliding_window\": 64").source().config
    #expect(config.contextLength == 512 && config.slidingWindow == 64 && config.window(layer: 0) == 64)
  }

  @Test(arguments: [
    ("qwen2", "\"mlp_bias\": true"), ("granite", "\"sliding_window\": 5"), ("mistral", "\"attention_bias\": true"),
    ("qwen3", "\"attn_logit_softcapping\": 30"), ("gemma2", "\"hidden_activation\": \"silu\""),
    ("smollm3", "\"no_rope_layers\": [2]"), ("smollm3", "\"no_rope_layer_interval\": 0"),
    ("phi3", "\"partial_rotary_factor\": 1.5"), ("qwen3", "\"partial_rotary_factor\": 0.5"),
    ("ministral", "\"layer_types\": [\"full_attention\", \"full_attention\"]"),
    ("gemma3_text", "\"rope_parameters\": {\"full_attention\": {}, \"chunked_attention\": {}}"),
    ("gemma3_text", "\"query_pre_attn_scalar\": 0"), ("gemma2", "\"use_bidirectional_attention\": true"),
  ]) func relativesRefuseFieldsByName(type: String, field: String) throws {
    let name = try #require(field.split(separator: "\"").first)
    let model = try model("\"model_type\": \"\(type)\", \(field)")
    let message = modelError { _ = try model.source() }
    #expect(message.hasPrefix("config.json: \(name): "), "\(message)")
  }

  @Test(arguments: [
    "\"bnb_4bit_from_the_future\": 3", "\"quant_method\": \"hqq\"", "\"bnb_4bit_quant_type\": \"int4\"",
    "\"load_in_8bit\": true",
  ]) func refusesQuantizationsByName(field: String) throws {
    let name = try #require(field.split(separator: "\"").first)
    var fields = ["\"quant_method\": \"bitsandbytes\"", "\"load_in_4bit\": true", "\"bnb_4bit_quant_type\": \"nf4\""]
    fields.removeAll { $0.contains("\"\(name)\"") }
    let model = try model("\"quantization_config\": {\((fields + [field]).joined(separator: ", "))}")
    let message = modelError { _ = try model.source() }
    #expect(message.hasPrefix("config.json: quantization_config: \(name): "), "\(message)")
  }

  // MARK: the head

  private let head = "lm_head.weight"
  private let embedding = "model.embed_tokens.weight"

  @Test(arguments: [true, false])
  func aHeadInTheFileIsTheHeadThoughTheConfigurationTiesIt(isCopy: Bool) throws {
    let model = try TinyModel(TinyShape(layers: 1, isTied: true))
    let tensor = try #require(model.tensors[embedding])
    model.replaceTensor(head, isCopy ? tensor : (tensor.shape, tensor.values.map { -2 * $0 }))
    try model.writeTensors()
    let source = try model.source()
    #expect(source.config.tiedHead == isCopy)
    #expect((source.shape(of: head) == nil) == isCopy)
    let base = try model.base()
    var row = [Float](repeating: 0, count: model.shape.hidden)
    base.head.copyRow(7, to: &row)
    let first = 7 * model.shape.hidden
    #expect(row == tensor.values[first..<first + model.shape.hidden].map { isCopy ? $0 : -2 * $0 })
  }

  // MARK: what is no model, or not all of one

  private static let pointer = """
    version https://git-lfs.github.com/spec/v1
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
    size 12345

    """

  @Test(arguments: ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
  func aGitLFSPointerIsNamed(file: String) throws {
    let model = try TinyModel(TinyShape(layers: 1))
    try Data(Self.pointer.utf8).write(to: model.folder.appending(path: file))
    let message = modelError {
      _ = try model.source()
      _ = try model.tokenizer()
    }
    #expect(message.contains(file) && message.contains("is a Git LFS pointer") && message.contains("git lfs pull"))
  }

  @Test func aGitLFSPointerToAGGUFFileIsNamed() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let url = try folder.write("m.gguf", Self.pointer)
    #expect(modelError { _ = try openPublishedModel(at: url) }.hasPrefix("m.gguf: is a Git LFS pointer"))
    // Whoever opens it directly is told the same.
    #expect(modelError { _ = try GGUFModel(url) }.hasPrefix("m.gguf: is a Git LFS pointer"))
  }

  @Test(arguments: [
    ("pytorch_model.bin", "convert"), ("pytorch_model-00001-of-00002.bin", "convert"),
    ("consolidated.00.pth", "Hugging Face form"), ("m.gguf", "name the file"),
  ]) func otherWeightsAreNamed(file: String, advice: String) throws {
    let model = try TinyModel(TinyShape(layers: 1))
    try FileManager.default.moveItem(
      at: model.folder.appending(path: "model.safetensors"), to: model.folder.appending(path: file))
    let message = modelError { _ = try model.source() }
    #expect(message.hasPrefix(file) && message.contains(advice), "\(message)")
  }

  @Test func anAdapterInTheModelsFolderIsRefused() throws {
    let model = try TinyModel(TinyShape(layers: 1))
    try Data("{}".utf8).write(to: model.folder.appending(path: "adapter_config.json"))
    #expect(modelError { _ = try model.source() }.hasPrefix("adapter_config.json: "))
  }

  @Test func aByteOrderMarkIsSkipped() throws {
    let model = try TinyModel(TinyShape(layers: 1))
    let url = model.folder.appending(path: "config.json")
    let plain = try model.source().config
    try Data([0xEF, 0xBB, 0xBF] + (try Data(contentsOf: url))).write(to: url)
    #expect(try model.source().config == plain)
  }

  @Test func whatTheTokenizerNeedsMustBeThere() throws {
    let model = try TinyModel(TinyShape(layers: 1))
    for field in ["bos_token", "eos_token"] {
      try Data("{\"\(field)\": \"<nowhere>\"}".utf8).write(to: model.folder.appending(path: "tokenizer_config.json"))
      let message = modelError { _ = try model.tokenizer() }
      #expect(message.contains("tokenizer_config.json: \(field): '<nowhere>'"), "\(message)")
    }
    try FileManager.default.removeItem(at: model.folder.appending(path: "tokenizer.json"))
    #expect(modelError { _ = try model.tokenizer() }.contains("tokenizer.json: no such file"))
    try Data().write(to: model.folder.appending(path: "tokenizer.model"))
    #expect(modelError { _ = try model.tokenizer() }.contains("tokenizer.model: pieces: missing"))
  }
}
