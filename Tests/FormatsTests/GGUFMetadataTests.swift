import Foundation
import TestSupport
import Testing

@testable import Formats

/// What a GGUF file says is honoured or refused by name; and models in several parts.
@Suite struct GGUFMetadataTests {
  private let folder: TemporaryFolder
  private let model: TinyModel

  init() throws {
    folder = try TemporaryFolder()
    model = try TinyModel(TinyShape(layers: 1))
  }

  private func source(_ file: TinyGGUF) throws -> GGUFModel { try GGUFModel(try folder.write("m.gguf", file.bytes)) }

  private func changed(_ key: String, _ value: TinyGGUF.Value?) -> TinyGGUF {
    var file = TinyGGUF(model)
    file.set(key, value)
    return file
  }

  @Test func readsWhatTheModelHolds() throws {
    defer { folder.remove() }
    let source = try source(TinyGGUF(model))
    #expect(source.config == (try model.source().config.withoutBOS))
    for (name, tensor) in model.tensors { #expect(try source.floats(name) == tensor.values, "\(name)") }
  }

  @Test(
    arguments: [
      ("llama.attn_logit_softcapping", .float(30)), ("llama.logit_scale", .float(0.5)),
      ("llama.expert_count", .integer(8)),
      ("llama.attention.scale", .float(0.5)), ("llama.attention.causal", .bool(false)),
      ("llama.attention.max_alibi_bias", .float(8)), ("llama.attention.clamp_kqv", .float(4)),
      ("llama.rope.scaling.attn_factor", .float(1.2)), ("llama.rope.scaling.type", .string("yarn")),
      ("llama.rope.dimension_count", .integer(8)), ("llama.attention.value_length", .integer(8)),
      ("llama.attention.temperature_scale", .float(0.1)), ("llama.pooling_type", .integer(1)),
      ("llama.tensor_data_layout", .string("another")), ("llama.vocab_size", .integer(301)),
      ("llama.from_the_future", .string("x")), ("llama.interleave_moe_layer_step", .integer(2)),
      ("tokenizer.ggml.add_eos_token", .bool(true)), ("tokenizer.ggml.from_the_future", .integer(1)),
      ("llama.block_count", .integer(0)), ("llama.block_count", .integer(.max)),
    ] as [(String, TinyGGUF.Value)])
  func refusesByName(key: String, value: TinyGGUF.Value) throws {
    defer { folder.remove() }
    let message = modelError { _ = try source(changed(key, value)) }
    #expect(message.hasPrefix("m.gguf: \(key): "), "\(message)")
  }

  @Test(
    arguments: [
      ("llama.attn_logit_softcapping", .float(0)), ("llama.logit_scale", .float(1)),
      ("llama.expert_count", .integer(0)),
      ("llama.attention.scale", .float(0.25)), ("llama.attention.causal", .bool(true)),
      ("llama.vocab_size", .integer(300)),
      ("llama.rope.scaling.type", .string("none")), ("llama.rope.dimension_count", .integer(16)),
      ("llama.tensor_data_layout", .string("Meta AI original pth")), ("llama.from_the_future", .bool(false)),
      ("llama.attention.sliding_window", .integer(512)), ("general.name", .string("x")),
      ("tokenizer.ggml.add_eos_token", .bool(false)), ("tokenizer.ggml.fim_pre_token_id", .integer(3)),
    ] as [(String, TinyGGUF.Value)])
  func acceptsWhatChangesNothing(key: String, value: TinyGGUF.Value) throws {
    defer { folder.remove() }
    #expect(try source(changed(key, value)).config == source(TinyGGUF(model)).config)
  }

  /// The product of YaRN's factor and its length is no length.
  @Test func refusesLengthsThatAreNone() throws {
    defer { folder.remove() }
    var file = changed("llama.rope.scaling.type", .string("yarn"))
    file.set("llama.rope.scaling.factor", .float(.infinity))
    file.set("llama.rope.scaling.original_context_length", .integer(0))
    #expect(modelError { _ = try source(file) } == "m.gguf: RoPE factor: inf is not positive")
  }

  /// Counts that a sparse file has room for, and memory has not.
  @Test func refusesDirectoriesThatAreTooLarge() throws {
    defer { folder.remove() }
    func integer(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    func text(_ text: String) -> [UInt8] { integer(UInt64(text.utf8.count)) + Array(text.utf8) }
    func message(tensors: UInt64, pairs: UInt64, _ rest: [UInt8], zeros: UInt64) throws -> String {
      var head = Array("GGUF".utf8)
      head += integer(UInt32(3))
      head += integer(tensors)
      head += integer(pairs)
      head += rest
      let url = try folder.write("m.gguf", head)
      let file = try FileHandle(forWritingTo: url)
      try file.truncate(atOffset: UInt64(head.count) + zeros)
      try file.close()
      return modelError { _ = try openTokenizer(at: url) }
    }
    #expect(
      try message(tensors: 131_073, pairs: 0, [], zeros: 4 << 20)
        == "m.gguf: 131073 tensors and 0 metadata pairs, more than 131072 and 65536")
    #expect(
      try message(tensors: 0, pairs: 65_537, [], zeros: 4 << 20)
        == "m.gguf: 0 tensors and 65537 metadata pairs, more than 131072 and 65536")
    #expect(
      try message(tensors: 0, pairs: 1, integer(UInt64(1 << 28 + 1)), zeros: 1 << 29)
        == "m.gguf: more than 268435456 bytes of strings, at byte 32")
    // Hashing such a key would take hours.
    #expect(
      try message(tensors: 0, pairs: 1, text("a" + String(repeating: "\u{316}\u{301}", count: 1_000_000)), zeros: 64)
        == "m.gguf: the string at byte 32 has more than 256 combining marks in a row")
    var types = text("tokenizer.ggml.model")
    types += integer(UInt32(8))
    types += text("gpt2")
    types += text("tokenizer.ggml.tokens")
    types += integer(UInt32(9))
    types += integer(UInt32(8))
    types += integer(UInt64(1))
    types += text("a")
    types += text("tokenizer.ggml.token_type")
    types += integer(UInt32(9))
    types += integer(UInt32(5))
    types += integer(UInt64(1 << 24 + 1))
    #expect(
      try message(tensors: 0, pairs: 3, types, zeros: 1 << 27)
        == "m.gguf: tokenizer.ggml.token_type: 16777217 elements, more than 16777216")
    var strings = text("general.tags")
    strings += integer(UInt32(9))
    strings += integer(UInt32(8))
    strings += integer(UInt64(1 << 25 + 1))
    #expect(
      try message(tensors: 0, pairs: 1, strings, zeros: 8 << 25 + 8)
        == "m.gguf: more than 33554432 strings and arrays in arrays of metadata, at byte 60")
  }

  @Test(arguments: ["model", "tokens", "token_type", "merges"])
  func whatTheTokenizerNeedsMustBeThere(key: String) throws {
    defer { folder.remove() }
    let message = modelError { _ = try source(changed("tokenizer.ggml.\(key)", nil)) }
    #expect(message.hasPrefix("m.gguf: tokenizer.ggml.\(key): missing"), "\(message)")
  }

  /// Old files of byte-level BPE. SentencePiece's do not need the key.
  @Test func aFileThatDoesNotSayHowTextIsSplitIsReadWithANote() throws {
    defer { folder.remove() }
    let notes = try source(changed("tokenizer.ggml.pre", nil)).notes
    #expect(notes.count == 1 && notes[0].hasPrefix("tokenizer.ggml.pre: missing"), "\(notes)")
    #expect(try source(TinyGGUF(model)).notes.isEmpty)
    var spm = changed("tokenizer.ggml.pre", nil)
    spm.set("tokenizer.ggml.model", .string("llama"))
    #expect(try source(spm).notes.isEmpty)
  }

  @Test func aSlidingWindowIsRead() throws {
    defer { folder.remove() }
    let config = try source(changed("llama.attention.sliding_window", .integer(64))).config
    #expect(config.contextLength == 512 && config.slidingWindow == 64 && config.window(layer: 0) == 64)
  }

  /// The layers with a window, as an array and as the count that llama.cpp takes for the same layers.
  @Test(arguments: ["gemma2", "gemma3"]) func windowedLayersAreReadFromAnArray(name: String) throws {
    defer { folder.remove() }
    let fixture = try ArchitectureFixture(name)
    func config(_ changes: [String: GGUFBytes.Value]) throws -> ModelConfig {
      try GGUFModel(try fixture.writeGGUF(changes)).config
    }
    let key = "\(name).attention.sliding_window_pattern"
    let layers = try config([:]).layerCount
    for period in 1...3 {
      let flags = (0..<layers).map { $0 % period < period - 1 }
      let expected = try config([key: .integer(UInt32(period))])
      #expect(try config([key: .bools(flags)]) == expected)
      #expect(try config([key: .integers(flags.map { $0 ? 1 : 0 })]) == expected)
    }
    #expect(try config([key: .bools((0..<layers).map { $0 == 0 })]).architecture.windowedLayers == [0])
    for wrong: GGUFBytes.Value in [
      .bools([Bool](repeating: true, count: layers + 1)), .bools([]), .integers([Int32](repeating: 2, count: layers)),
      .strings([String](repeating: "x", count: layers)),
    ] {
      #expect(modelError { _ = try config([key: wrong]) }.hasPrefix("model.gguf: \(key): not a"))
    }
  }

  @Test func refusesTensorsByName() throws {
    defer { folder.remove() }
    for name in ["blk.0.attn_q_norm.weight", "blk.0.attn_q.scale", "rope_factors_long.weight", "output_norm.bias"] {
      var file = TinyGGUF(model)
      file.tensors.append((name, [8], [Float](repeating: 1, count: 8)))
      #expect(modelError { _ = try source(file) }.hasPrefix("m.gguf: \(name): "))
    }
  }

  @Test func anAdapterIsNamedAsOne() throws {
    defer { folder.remove() }
    for (key, value) in [("general.type", "adapter"), ("adapter.type", "lora")] {
      #expect(modelError { _ = try source(changed(key, .string(value))) }.contains("is a LoRA adapter in GGUF"))
    }
  }

  // MARK: parts

  private func write(_ parts: [TinyGGUF], stem: String = "m") throws -> [URL] {
    try parts.enumerated().map { number, part in
      try folder.write("\(stem)-0000\(number + 1)-of-0000\(parts.count).gguf", part.bytes)
    }
  }

  @Test func partsAreReadAsOne() throws {
    defer { folder.remove() }
    let whole = try source(TinyGGUF(model))
    let parts = try write(TinyGGUF(model).parts(3))
    for url in parts {
      let source = try #require(try openPublishedModel(at: url) as? GGUFModel)
      #expect(source.config == whole.config)
      #expect(source.files.map(\.lastPathComponent) == parts.map(\.lastPathComponent))
      for name in model.tensors.keys { #expect(try source.floats(name) == whole.floats(name), "\(name)") }
      #expect(modelStem(of: url) == "m")
    }
    #expect(modelStem(of: URL(filePath: "/x/a-1-of-2.gguf")) == "a-1-of-2")
  }

  @Test func partsThatDoNotBelongTogetherAreNamed() throws {
    defer { folder.remove() }
    let parts = TinyGGUF(model).parts(3)
    let urls = try write(parts)
    _ = try folder.write(urls[1].lastPathComponent, parts[2].bytes)
    #expect(modelError { _ = try GGUFModel(urls[0]) }.hasPrefix("m-00002-of-00003.gguf: split.no: "))
    try FileManager.default.removeItem(at: urls[1])
    #expect(modelError { _ = try GGUFModel(urls[0]) }.contains("m-00002-of-00003.gguf"))
    let renamed = try folder.write("renamed.gguf", parts[0].bytes)
    #expect(modelError { _ = try GGUFModel(renamed) }.contains("must end in -00001-of-00003.gguf"))
    var double = parts
    double[2].tensors += double[1].tensors.prefix(1)
    let last = try write(double, stem: "double")[2]
    #expect(modelError { _ = try GGUFModel(last) }.contains("is in another part too"))
    var fewer = parts
    fewer[2].tensors.removeLast()
    #expect(modelError { _ = try GGUFModel(try write(fewer, stem: "fewer")[0]) }.contains("split.tensors.count"))
  }

  /// The limits hold for all parts together, and of parts after the first no metadata stays in memory.
  @Test func partsShareTheLimits() throws {
    defer { folder.remove() }
    let whole = TinyGGUF(model)
    var parts = whole.parts(5)
    for number in 1..<5 {
      parts[number].set("general.description", .string(String(repeating: "x", count: 100_000)))
      parts[number].set("general.tags", .strings(Array(repeating: "x", count: 1000)))
    }
    let urls = try write(parts)
    let shards = try GGUFShards(urls[0])
    for part in shards.files.dropFirst() { #expect(part.metadata.keys.sorted() == ["split.count", "split.no"]) }
    #expect(shards.first.metadata["tokenizer.ggml.model"] == .string("gpt2"))
    func message(_ url: URL, _ change: (inout GGUFAllowance) -> Void) -> String {
      var allowance = GGUFAllowance()
      change(&allowance)
      return modelError { _ = try GGUFShards(url, allowance: allowance) }
    }
    // Each part has less than that, and so has the one that is named.
    for url in urls {
      #expect(
        message(url) { $0.textLimit = 250_000 }.hasPrefix("m-00004-of-00005.gguf: more than 250000 bytes of strings"))
    }
    #expect(
      message(urls[1]) { $0.itemLimit = 3200 }.hasPrefix("m-00004-of-00005.gguf: more than 3200 strings and arrays"))
    let (tensors, pairs) = (whole.tensors.count, whole.metadata.count + 3 + 4 * 5)
    #expect(message(urls[0]) { $0.tensorLimit = tensors - 1 }.hasPrefix("m-00005-of-00005.gguf: \(tensors) tensors"))
    var exact = GGUFAllowance()
    (exact.tensorLimit, exact.pairLimit) = (tensors, pairs)
    #expect(try GGUFShards(urls[0], allowance: exact).tensors.count == tensors)
    #expect(message(urls[0]) { $0.pairLimit = pairs - 1 }.contains("and \(pairs) metadata pairs"))
  }
}

extension ModelConfig {
  fileprivate var withoutBOS: ModelConfig {
    var config = self
    config.bosToken = nil
    return config
  }
}
