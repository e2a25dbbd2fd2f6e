import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// Whole models: an adapter merged into its base, a base in bitsandbytes' form, an adapter out of two models.
@Suite struct ModelExportTests {
  private let model: TinyModel
  private let config: ModelConfig
  private let output: TemporaryFolder
  private let pool = ThreadPool(threads: 2)

  init() throws {
    model = try TinyModel()
    config = try model.source().config
    output = try TemporaryFolder()
  }

  private func target(_ name: String) -> URL { output.url.appending(path: name) }

  private func bfloat16(_ value: Double) -> Float {
    // One rounding, from the exact sum.
    let step = 0x1p-7 * (value == 0 ? 1 : exp2(floor(log2(abs(value)))))
    return Float((value / step).rounded(.toNearestOrEven) * step)
  }

  @Test(arguments: [false, true]) func mergesAsTheFormulaSays(_ usesDoRA: Bool) throws {
    defer { output.remove() }
    let adapter = try model.writeAdapter("a", ranks: [.q: 3, .down: 5], seed: 3, usesDoRA: usesDoRA)
    _ = try TemporaryFolder.overwrite(model.folder.appending(path: "LICENSE.txt"), Array("free".utf8))
    let named = try MergedFolder.write(
      adapter: adapter.folder, base: model.folder, to: target("merged"), shardSize: 60_000, pool: pool)
    #expect(named == nil)
    let merged = try openPublishedModel(at: target("merged"))
    let files = try FileManager.default.contentsOfDirectory(atPath: target("merged").path)
    #expect(files.contains("model.safetensors.index.json") && files.contains("model-00002-of-00007.safetensors"))
    #expect(files.contains("LICENSE.txt") && files.contains("tokenizer.json"))
    let updates = try PEFTAdapter.read(folder: adapter.folder, config: config).updates
    var (equal, all) = (0, 0)
    var worst: Float = 0
    for (name, tensor) in model.tensors {
      let update = updates.first { $0.projection.fullName(layer: $0.layer) + ".weight" == name }
      let found = try merged.floats(name)
      let columns = tensor.shape.last ?? 1
      for row in 0..<tensor.values.count / columns {
        var sums = tensor.values[row * columns..<(row + 1) * columns].map(Double.init)
        if let update {
          for column in 0..<columns {
            for k in 0..<update.rank {
              let factor = Double(update.scale) * Double(update.b[row * update.rank + k])
              sums[column] += factor * Double(update.a[k * columns + column])
            }
          }
          if let magnitude = update.magnitude {
            let norm = sums.reduce(0) { $0 + $1 * $1 }.squareRoot()
            for column in 0..<columns { sums[column] *= Double(magnitude[row]) / norm }
          }
        }
        for column in 0..<columns {
          let wanted = bfloat16(sums[column])
          let value = found[row * columns + column]
          equal += value == wanted ? 1 : 0
          all += 1
          // A sum in f32 may lie on the other side of the middle between two numbers.
          worst = max(worst, abs(value - wanted) / (abs(wanted) * 0x1p-7 + 1e-6))
        }
      }
    }
    #expect(worst <= 1 && Double(equal) > 0.999 * Double(all))
  }

  @Test func onlyOriginalWeightsAreMerged() throws {
    defer { output.remove() }
    let adapter = try model.writeAdapter("a", ranks: [.q: 3], seed: 3)
    let quantized = try TinyModel(unquantized: [])
    func merge(_ base: URL, _ name: String = "m") -> String {
      modelError { try MergedFolder.write(adapter: adapter.folder, base: base, to: target(name), pool: pool) }
    }
    #expect(
      merge(quantized.folder)
        == "config.json: quantization_config: the weights are quantised; give the original ones")
    #expect(merge(target("a.gguf")).hasSuffix("is no folder; give the Hugging Face folder of the original weights"))
    #expect(merge(adapter.folder).contains("config.json"))
    model.setTensor("model.norm.weight", [Float](repeating: 3.4e38, count: 96))
    try model.writeTensors()
    #expect(merge(model.folder) == "model.norm.weight: has values that are too large for bfloat16")
    var values = try #require(model.tensors["model.layers.0.self_attn.q_proj.weight"]?.values)
    values[5] = .infinity
    model.setTensor("model.norm.weight", [Float](repeating: 1, count: 96))
    model.setTensor("model.layers.0.self_attn.q_proj.weight", values)
    try model.writeTensors()
    #expect(merge(model.folder).contains("model.layers.0.self_attn.q_proj.weight: has values that are not finite"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: output.url.path).isEmpty)
  }

  /// A GGUF file's matrices are those of the folder, in its own order of rows; the tokenizer and the norms stay.
  @Test(arguments: ["llama-biases", "qwen3", "gemma2", "phi3"]) func ggufIsMergedAlike(_ name: String) throws {
    defer { output.remove() }
    let fixture = try ArchitectureFixture(name)
    let like = try GGUFModel(fixture.writeGGUF())
    let folder = try fixture.source()
    try MergedFolder.write(adapter: fixture.adapter, base: fixture.folder, to: target("folder"), pool: pool)
    for (file, base) in [("a.gguf", like as any PublishedModel), ("b.gguf", folder)] {
      try MergedGGUF.write(
        adapter: fixture.adapter, base: base, like: like, to: target(file), type: .bf16, pool: pool)
    }
    #expect(try Data(contentsOf: target("a.gguf")) == Data(contentsOf: target("b.gguf")))
    let merged = try GGUFModel(target("a.gguf"))
    let wanted = try openPublishedModel(at: target("folder"))
    #expect(merged.config == like.config)
    for tensor in fixture.tensorNames {
      let isMatrix = merged.shape(of: tensor)?.count == 2
      #expect(try merged.floats(tensor) == (isMatrix ? wanted.floats(tensor) : like.floats(tensor)), "\(tensor)")
    }
    guard case .gguf(let before) = like.tokenizer, case .gguf(let after) = merged.tokenizer else {
      Issue.record("no vocabulary")
      return
    }
    #expect(after.tokens == before.tokens && after.merges == before.merges)
    let other = try TinyModel().source()
    #expect(
      modelError {
        try MergedGGUF.write(
          adapter: fixture.adapter, base: other, like: like, to: target("c.gguf"), type: .f16, pool: pool)
      }.hasSuffix("has other shapes in the base and in the GGUF file with the metadata"))
  }

  @Test(arguments: [false, true]) func bitsAndBytesHasThePreparedBasesCodes(_ usesDoubleQuantization: Bool) throws {
    defer { output.remove() }
    try BitsAndBytesFolder.write(
      base: model.folder, to: target("nf4"), usesDoubleQuantization: usesDoubleQuantization, shardSize: 50_000,
      pool: pool)
    let source = try openPublishedModel(at: target("nf4"))
    for (name, tensor) in model.tensors {
      guard name.hasSuffix("_proj.weight") else {
        #expect(try source.floats(name) == tensor.values)
        continue
      }
      let (packed, absmax) = try NF4.quantize(tensor.values)
      let stored = try #require(try source.nf4(name))
      #expect(stored.packed == packed && stored.shape == tensor.shape && stored.blockSize == 64)
      #expect(
        stored.absmax == (usesDoubleQuantization ? DoubleQuantizedAbsmax(encoding: absmax).decoded() : absmax))
    }
    guard !usesDoubleQuantization else { return }
    // The fingerprint is over all codes, scales and other weights.
    let base = try model.store.open(source, pool: pool).base
    #expect(base.fingerprint == (try model.base().fingerprint))
  }

  @Test func bitsAndBytesRefusesWhatIsNotFinite() throws {
    defer { output.remove() }
    var values = try #require(model.tensors["model.layers.1.mlp.up_proj.weight"]?.values)
    values[7000] = .nan
    model.setTensor("model.layers.1.mlp.up_proj.weight", values)
    try model.writeTensors()
    #expect(
      modelError {
        try BitsAndBytesFolder.write(
          base: model.folder, to: target("nf4"), usesDoubleQuantization: false, pool: pool)
      } == "model.safetensors: model.layers.1.mlp.up_proj.weight: element 7000 is not a finite number")
    #expect(try FileManager.default.contentsOfDirectory(atPath: output.url.path).isEmpty)
  }

  @Test func extractionFindsTheAdapter() throws {
    defer { output.remove() }
    let adapter = try model.writeAdapter("a", ranks: [.q: 3, .down: 5], seed: 3)
    let tuned = try TinyModel(seed: 1)
    let updates = try PEFTAdapter.read(folder: adapter.folder, config: config).updates
    for update in updates {
      let name = update.projection.fullName(layer: update.layer) + ".weight"
      var values = try #require(tuned.tensors[name]?.values)
      let columns = update.a.count / update.rank
      for i in values.indices {
        let (row, column) = i.quotientAndRemainder(dividingBy: columns)
        for k in 0..<update.rank {
          let factor = update.scale * update.b[row * update.rank + k]
          values[i] += factor * update.a[k * columns + column]
        }
      }
      tuned.setTensor(name, values)
    }
    tuned.setTensor("model.norm.weight", try #require(tuned.tensors["model.norm.weight"]?.values.map { $0 * 1.5 }))
    try tuned.writeTensors()
    let parts = try AdapterExtraction.write(
      base: try model.source(), tuned: try tuned.source(), rank: 5, name: "base", to: target("found"))
    var names = Set(updates.map { $0.projection.fullName(layer: $0.layer) + ".weight" })
    names.insert("model.norm.weight")
    #expect(Set(parts.map(\.name)) == names)
    for part in parts {
      if part.name == "model.norm.weight" {
        #expect(part.kept == 0 && abs(part.change - 0.25) < 1e-6)
      } else {
        #expect(part.kept > 1 - 1e-5)
      }
    }
    let found = try PEFTAdapter.read(folder: target("found"), config: config)
    #expect(found.rank == 5 && found.alpha == 5 && found.updates.count == updates.count)
    for (own, other) in zip(updates, found.updates) {
      #expect(own.layer == other.layer && own.projection == other.projection)
      let columns = own.a.count / own.rank
      var worst = 0.0
      for i in 0..<own.b.count / own.rank * columns {
        let (row, column) = i.quotientAndRemainder(dividingBy: columns)
        func value(_ update: PEFTAdapter.Update) -> Double {
          var sum = 0.0
          for k in 0..<update.rank {
            sum += Double(update.b[row * update.rank + k]) * Double(update.a[k * columns + column])
          }
          return sum * Double(update.scale)
        }
        worst = max(worst, abs(value(own) - value(other)))
      }
      #expect(worst < 1e-3)
    }
  }

  @Test func extractionRefusesNamingTheCulprit() throws {
    defer { output.remove() }
    func extract(_ tuned: TinyModel, rank: Int = 4) -> String {
      modelError {
        _ = try AdapterExtraction.write(
          base: try model.source(), tuned: try tuned.source(), rank: rank, name: "base", to: target("found"))
      }
    }
    #expect(extract(try TinyModel()).hasPrefix("base: no projection differs"))
    #expect(
      extract(try TinyModel(TinyShape(vocabulary: 301))).hasPrefix("lm_head.weight: [301, 96] in the tuned model"))
    #expect(extract(try TinyModel(TinyShape(isTied: true))).hasPrefix("lm_head.weight: missing in the tuned model"))
    #expect(extract(try TinyModel(seed: 2), rank: 0).hasPrefix("rank: 0 is not a rank"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: output.url.path).isEmpty)
  }
}
