import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// Adapters of every kind that can be loaded go out again: merged they give the logits that PEFT computes of them unmerged.
@Suite struct MergedFormTests {
  private let output: TemporaryFolder
  private let pool = ThreadPool(threads: 2)

  init() throws { output = try TemporaryFolder() }

  private func target(_ name: String) -> URL { output.url.appending(path: name) }

  /// The logits of a merged folder, none of whose weights are quantised.
  private func logits(_ setting: AdapterFormSetting, merged folder: URL) throws -> [[Float]] {
    let url = folder.appending(path: "config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    let fields =
      #""quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4"}"#
    try Data((text.dropLast() + "," + fields + "}").utf8).write(to: url)
    return try setting.logits(try setting.fixture.base(openPublishedModel(at: folder)), .none)
  }

  private func merge(_ adapter: URL, _ setting: AdapterFormSetting, to name: String, _ type: SafetensorsType) throws {
    let config = try setting.fixture.source().config
    try AdapterImport.withPEFTFolder(adapter, config: config) {
      _ = try MergedFolder.write(adapter: $0, base: setting.fixture.folder, to: target(name), type: type, pool: pool)
    }
  }

  private static let forms = (AdapterForm.peft + AdapterForm.foreign).filter { $0 != "lora-bias" }
  /// Those whose head is no longer the embedding.
  private static let untied = ["saved-embedding-tied", "lora-embedding-alone"]

  @Test(arguments: forms) func aMergedFolderGivesPEFTsLogits(name: String) throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting(name)
    try merge(setting.form.folder, setting, to: "merged", .f32)
    let model = try openPublishedModel(at: target("merged"))
    let isTied = try setting.fixture.source().config.tiedHead
    #expect(model.config.tiedHead == (isTied && !Self.untied.contains(name)))
    if Self.untied.contains(name) {
      let text = try String(contentsOf: target("merged/config.json"), encoding: .utf8)
      #expect(text.contains(#""tie_word_embeddings":false"#))
    }
    let error = setting.error(try logits(setting, merged: target("merged")))
    #expect(error < 5e-6, "\(error)")
  }

  /// A GGUF file has the same values, in its own order of rows, matrices rounded to bf16.
  @Test(arguments: forms) func aMergedGGUFHasTheSameWeights(name: String) throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting(name)
    let like = try GGUFModel(setting.fixture.writeGGUF())
    let source = try setting.fixture.source()
    try merge(setting.form.folder, setting, to: "merged", .f32)
    for (file, base) in [("a.gguf", like as any PublishedModel), ("b.gguf", source)] {
      func write() throws {
        try AdapterImport.withPEFTFolder(setting.form.folder, config: source.config) {
          _ = try MergedGGUF.write(adapter: $0, base: base, like: like, to: target(file), type: .bf16, pool: pool)
        }
      }
      guard setting.form.model == "gemma2", Self.untied.contains(name) else {
        try write()
        continue
      }
      let message = modelError { try write() }
      #expect(message.hasSuffix("a head that is not its embedding, which llama.cpp does not read of gemma2"))
    }
    guard FileManager.default.fileExists(atPath: target("a.gguf").path) else { return }
    #expect(try Data(contentsOf: target("a.gguf")) == Data(contentsOf: target("b.gguf")))
    let (merged, wanted) = (try GGUFModel(target("a.gguf")), try openPublishedModel(at: target("merged")))
    #expect(merged.config.tensorNames == wanted.config.tensorNames)
    for tensor in merged.config.tensorNames {
      let isMatrix = merged.shape(of: tensor)?.count == 2
      let values = try wanted.floats(tensor).map { value in
        isMatrix ? Float(bitPattern: UInt32(LowRankFactors.bf16(value)) << 16) : value
      }
      #expect(try merged.floats(tensor) == values, "\(tensor)")
    }
  }

  /// B's biases are added to those of the base. A module without one cannot have it.
  @Test func biasesBesideFactorsNeedBiasesOfTheBase() throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting("lora-bias")
    #expect(
      modelError { try merge(setting.form.folder, setting, to: "merged", .f32) }
        == "adapter_config.json: lora_bias: lm_head has no bias in the base, so none can be merged into it")
    let folder = target("adapter")
    try FileManager.default.copyItem(at: setting.form.folder, to: folder)
    let url = folder.appending(path: "adapter_config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    try Data(text.replacing("\"lm_head\"", with: "\"none\"").utf8).write(to: url)
    let weights = folder.appending(path: "adapter_model.safetensors")
    let file = try SafetensorsFile(weights)
    try SafetensorsWriter.write(
      file.tensors.values.filter { !$0.name.contains("lm_head") }.map { ($0.name, $0.shape, try file.floats($0.name)) },
      to: weights)
    let base = try setting.base()
    let adapter = try Adapter(peft: folder, base: base, mode: .f32)
    let wanted = try setting.logits(base, AdapterSet([(adapter, 1)]))
    try merge(folder, setting, to: "merged", .f32)
    let found = try logits(setting, merged: target("merged"))
    let worst = zip(wanted.joined(), found.joined()).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
    #expect(worst < 5e-6 * (wanted.joined().map(abs).max() ?? 0), "\(worst)")
  }

  /// A copy of a tied table that equals the base's leaves the head tied.
  @Test func anEqualCopyUntiesNothing() throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting("saved-embedding-tied")
    let folder = target("adapter")
    try FileManager.default.copyItem(at: setting.form.folder, to: folder)
    let weights = folder.appending(path: "adapter_model.safetensors")
    let file = try SafetensorsFile(weights)
    let own = try setting.fixture.source().floats("model.embed_tokens.weight")
    try SafetensorsWriter.write(
      file.tensors.values.map {
        ($0.name, $0.shape, $0.name.contains("embed_tokens") ? own : try file.floats($0.name))
      }, to: weights)
    try merge(folder, setting, to: "merged", .f32)
    #expect(try openPublishedModel(at: target("merged")).config.tiedHead)
    let config = try setting.fixture.source().config
    // Nor is there anything that GGUF could not express.
    try AdapterExport.writeGGUF(folder, config: config, tables: tables(setting), to: target("a.gguf"), name: "a")
  }

  // MARK: adapters for other programs

  private func tables(_ setting: AdapterFormSetting) -> () throws -> BaseTables {
    { BaseTables(try setting.fixture.source()) }
  }

  /// What GGUF and MLX-LM can express comes back as it was.
  @Test(arguments: ["lora-tables", "set-a", "gguf", "gguf-qwen", "gguf-phi", "pissa"], [true, false])
  func factorsGoOutAndComeBack(name: String, isGGUF: Bool) throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting(name)
    let base = try setting.base()
    let written = isGGUF ? target("a.gguf") : target("mlx")
    try AdapterImport.withPEFTFolder(setting.form.folder, config: base.config) { folder in
      if isGGUF {
        try AdapterExport.writeGGUF(folder, config: base.config, tables: tables(setting), to: written, name: name)
      } else {
        try AdapterExport.writeMLX(folder, config: base.config, tables: { BaseTables(base) }, to: written)
      }
    }
    let adapter = try Adapter.read(written, base: base, mode: .f32)
    #expect(setting.error(try setting.logits(base, AdapterSet([(adapter, 1)]))) < 5e-6)
  }

  @Test func magnitudesOfTheHeadGoOutToMLX() throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting("lora-head-dora")
    let base = try setting.base()
    try AdapterExport.writeMLX(setting.form.folder, config: base.config, tables: tables(setting), to: target("mlx"))
    let text = try String(contentsOf: target("mlx/adapter_config.json"), encoding: .utf8)
    #expect(text.contains(#""keys":["lm_head","mlp.down_proj"]"#))
    let adapter = try Adapter.read(target("mlx"), base: base, mode: .f32)
    #expect(setting.error(try setting.logits(base, AdapterSet([(adapter, 1)]))) < 5e-6)
  }

  /// With a tied head, MLX-LM's factors of the embedding are the head's, too.
  @Test func factorsOfATiedEmbeddingComeFromMLXAndGoBack() throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting("lora-embedding-alone")
    let base = try setting.base()
    let (rank, vocabulary, hidden) = (2, base.config.vocabularySize, base.config.hiddenSize)
    var random = TinyRandom(seed: 8)
    let (a, b) = (random.values(vocabulary * rank, scale: 0.3), random.values(rank * hidden, scale: 0.3))
    try FileManager.default.createDirectory(at: target("mlx"), withIntermediateDirectories: true)
    let name = "language_model.model.embed_tokens"
    try SafetensorsWriter.write(
      [(name + ".lora_a", [vocabulary, rank], a), (name + ".lora_b", [rank, hidden], b)],
      to: target("mlx/adapters.safetensors"))
    try Data(#"{"fine_tune_type":"lora","lora_parameters":{"rank":2,"scale":2.0}}"#.utf8)
      .write(to: target("mlx/adapter_config.json"))
    // The sum of the tables is the tied table of a model whose embedding has been changed.
    let source = try setting.fixture.source()
    var table = try source.floats("model.embed_tokens.weight")
    for token in 0..<vocabulary {
      for r in 0..<rank {
        for i in 0..<hidden { table[token * hidden + i] += 2 * a[token * rank + r] * b[r * hidden + i] }
      }
    }
    let weights = setting.fixture.folder.appending(path: "model.safetensors")
    let adapter = try Adapter.read(target("mlx"), base: base, mode: .f32)
    let found = try setting.logits(base, AdapterSet([(adapter, 1)]))
    try AdapterImport.withPEFTFolder(target("mlx"), config: base.config) {
      try AdapterExport.writeMLX($0, config: base.config, tables: tables(setting), to: target("again"))
    }
    let again = try SafetensorsFile(target("again/adapters.safetensors"))
    #expect(try again.tensors.count == 2 && again.floats("model.embed_tokens.lora_a") == a)
    #expect(try again.floats("model.embed_tokens.lora_b") == b)
    let file = try SafetensorsFile(weights)
    try SafetensorsWriter.write(
      file.tensors.values.map {
        ($0.name, $0.shape, $0.name == "model.embed_tokens.weight" ? table : try file.floats($0.name))
      }, to: weights)
    let wanted = try setting.logits(try setting.base(), .none)
    let worst = zip(wanted.joined(), found.joined()).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
    #expect(worst < 1e-5 * (wanted.joined().map(abs).max() ?? 0), "\(worst)")
  }

  @Test(arguments: [
    ("saved-tables", "modules_to_save: F have no whole rows of the embedding or the head"),
    ("tokens-both", "trainable_token_indices: F have no whole rows"),
    ("saved-norms", "modules_to_save: F have no norms"),
    ("lora-bias", "lora_bias: F have no biases"), ("base-biases", "bias: F have no biases"),
    ("ia3", "peft_type: F have no IA3 scalings"),
    (
      "lora-embedding-alone",
      "target_modules: model.embed_tokens is targeted, and F cannot tell the embedding from a head"
    ),
  ]) func whatAFormCannotExpressIsNamed(name: String, words: String) throws {
    defer { output.remove() }
    let setting = try AdapterFormSetting(name)
    let config = try setting.fixture.source().config
    let (folder, tables) = (setting.form.folder, tables(setting))
    let messages = [
      "GGUF's": modelError {
        try AdapterExport.writeGGUF(folder, config: config, tables: tables, to: target("a.gguf"), name: "a")
      },
      "MLX-LM's": modelError { try AdapterExport.writeMLX(folder, config: config, tables: tables, to: target("mlx")) },
    ]
    for (form, message) in messages {
      #expect(
        message.hasPrefix("adapter_config.json: " + words.replacing("F ", with: form + " adapters ")), "\(message)")
      #expect(message.hasSuffix("; merge the adapter instead"))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: output.url.path).isEmpty)
  }

  /// An adapter of another architecture may have rows in another order. Those of Granite and Llama are the same.
  @Test func aGGUFAdapterNamesItsArchitecture() throws {
    defer { output.remove() }
    let qwen = try AdapterForm("gguf-qwen").folder.appending(path: "adapter.gguf")
    let llama = try AdapterForm("gguf").folder.appending(path: "adapter.gguf")
    func config(_ name: String) throws -> ModelConfig { try ArchitectureFixture(name).source().config }
    #expect(
      modelError { _ = try GGUFAdapter(qwen, config: config("llama-biases")) }
        == "adapter.gguf: general.architecture: is qwen2, and the base's is llama")
    #expect(
      modelError { _ = try GGUFAdapter(llama, config: config("qwen2")) }
        == "adapter.gguf: general.architecture: is llama, and the base's is qwen2")
    for name in ["llama-biases", "granite"] { #expect(try !GGUFAdapter(llama, config: config(name)).modules.isEmpty) }
  }
}
