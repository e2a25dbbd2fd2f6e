import Formats
import Foundation
import Kernels
import TestSupport
import Testing

@testable import Model

/// Adapters written for llama.cpp and MLX-LM: what their files mean is what the PEFT folder means.
@Suite struct AdapterExportTests {
  private let model: TinyModel
  private let config: ModelConfig
  private let output: TemporaryFolder

  init() throws {
    model = try TinyModel()
    config = try model.source().config
    output = try TemporaryFolder()
  }

  private func tables() throws -> BaseTables { BaseTables(try model.source()) }

  private func target(_ name: String) -> URL { output.url.appending(path: name) }

  private func setFields(_ adapter: TinyAdapter, _ fields: String) throws {
    let url = adapter.folder.appending(path: "adapter_config.json")
    let text = try String(contentsOf: url, encoding: .utf8)
    try Data((text.dropLast() + "," + fields + "}").utf8).write(to: url)
  }

  /// scale · B(A), [outputs, inputs].
  private func product(_ a: [Float], _ b: [Float], rank: Int, scale: Double) -> [Double] {
    let (rows, columns) = (b.count / rank, a.count / rank)
    var result = [Double](repeating: 0, count: rows * columns)
    for row in 0..<rows {
      for k in 0..<rank {
        let factor = scale * Double(b[row * rank + k])
        for column in 0..<columns { result[row * columns + column] += factor * Double(a[k * columns + column]) }
      }
    }
    return result
  }

  @Test(arguments: ["", #""use_rslora":true"#, #""alpha_pattern":{"k_proj":3.0}"#], [GGUFTensorType.f32, .f16, .bf16])
  func ggufMeansTheSame(_ fields: String, _ type: GGUFTensorType) throws {
    defer { output.remove() }
    let adapter = try model.writeAdapter("a", ranks: [.q: 3, .k: 4, .o: 2, .down: 5], seed: 1)
    if !fields.isEmpty { try setFields(adapter, fields) }
    try AdapterExport.writeGGUF(
      adapter.folder, config: config, tables: tables, to: target("a.gguf"), type: type, name: "a")
    let file = try GGUFFile(target("a.gguf"))
    #expect(file.metadata["general.architecture"] == .string("llama"))
    #expect(file.metadata["general.type"] == .string("adapter"))
    #expect(file.metadata["adapter.type"] == .string("lora"))
    guard case .float(let alpha)? = file.metadata["adapter.lora.alpha"] else {
      Issue.record("no alpha")
      return
    }
    let updates = try PEFTAdapter.read(folder: adapter.folder, config: config).updates
    #expect(file.tensors.count == updates.count * 2)
    for update in updates {
      let name = GGUFLayout(config).name(of: update.projection.fullName(layer: update.layer) + ".weight")
      let (a, b) = (try #require(file.tensors[name + ".lora_a"]), try #require(file.tensors[name + ".lora_b"]))
      #expect(a.type == type && b.shape[1] == update.rank)
      func values(_ tensor: GGUFFile.Tensor) throws -> [Float] {
        var values = [Float](repeating: 0, count: tensor.rows * tensor.columns)
        try values.withUnsafeMutableBufferPointer {
          try file.readRows(tensor.name, rows: 0..<tensor.rows, into: $0)
        }
        return values
      }
      // llama.cpp divides alpha by the rank that B has.
      let found = product(try values(a), try values(b), rank: update.rank, scale: alpha / Double(update.rank))
      let wanted = product(update.a, update.b, rank: update.rank, scale: Double(update.scale))
      let columns = a.shape[1]
      let bound = type == .f32 ? 1e-6 : type == .f16 ? 2e-3 : 2e-2
      let scale = wanted.reduce(0) { max($0, abs($1)) }
      var worst = 0.0
      for row in 0..<b.shape[0] {
        let place = GGUFLayout(config).row(row, of: update.projection)
        for column in 0..<columns {
          worst = max(worst, abs(found[place * columns + column] - wanted[row * columns + column]))
        }
      }
      #expect(worst <= bound * scale)
    }
  }

  /// The architecture's name and the tensors' names, against what llama.cpp's converter wrote of the same model.
  @Test(arguments: ArchitectureFixture.ggufNames) func ggufFitsTheBase(_ name: String) throws {
    defer { output.remove() }
    let fixture = try ArchitectureFixture(name)
    let base = try GGUFFile(fixture.writeGGUF())
    let source = try fixture.source()
    let file = target("a.gguf")
    if fixture.usesDoRA {
      #expect(throws: ModelError.self) {
        try AdapterExport.writeGGUF(fixture.adapter, config: source.config, tables: tables, to: file, name: name)
      }
      #expect(!FileManager.default.fileExists(atPath: file.path))
      return
    }
    try AdapterExport.writeGGUF(fixture.adapter, config: source.config, tables: tables, to: file, name: name)
    let adapter = try GGUFFile(file)
    #expect(adapter.metadata["general.architecture"] == base.metadata["general.architecture"])
    for (name, tensor) in adapter.tensors {
      let weight = try #require(base.tensors[String(name.dropLast(".lora_a".count))])
      #expect(name.hasSuffix(".lora_a") ? tensor.shape[1] == weight.shape[1] : tensor.shape[0] == weight.shape[0])
    }
  }

  @Test(arguments: [false, true]) func mlxMeansTheSame(_ usesDoRA: Bool) throws {
    defer { output.remove() }
    let adapter = try model.writeAdapter("a", ranks: [.q: 3, .up: 4], seed: 2, usesDoRA: usesDoRA)
    try setFields(adapter, #""layers_to_transform":[1],"alpha_pattern":{"up_proj":5.0}"#)
    // Only the last layer's tensors.
    let weights = adapter.folder.appending(path: "adapter_model.safetensors")
    let all = try SafetensorsFile(weights)
    try SafetensorsWriter.write(
      all.tensors.values.filter { $0.name.contains("layers.1.") }.map { ($0.name, $0.shape, try all.floats($0.name)) },
      to: weights)
    try AdapterExport.writeMLX(adapter.folder, config: config, tables: tables, to: target("mlx"))

    let text = try Data(contentsOf: target("mlx/adapter_config.json"))
    let fields = try #require(try JSONValue.parse(Array(text), subject: "config").object)
    #expect(fields["fine_tune_type"] == .string(usesDoRA ? "dora" : "lora"))
    #expect(fields["num_layers"] == .integer(1))
    let parameters = try #require(fields["lora_parameters"]?.object)
    #expect(parameters["keys"] == ["mlp.up_proj", "self_attn.q_proj"] && parameters["rank"] == .integer(4))
    let scale = try #require(parameters["scale"]?.double)
    let file = try SafetensorsFile(target("mlx/adapters.safetensors"))
    #expect(file.metadata == ["format": "mlx"])
    let updates = try PEFTAdapter.read(folder: adapter.folder, config: config).updates
    #expect(updates.count == 2 && file.tensors.count == (usesDoRA ? 6 : 4))
    for update in updates {
      let name = update.projection.fullName(layer: 1)
      let size = update.projection.shape(config)
      #expect(try file.tensor(name + ".lora_a").shape == [size.input, 4])
      #expect(try file.tensor(name + ".lora_b").shape == [4, size.output])
      let (a, b) = (try file.floats(name + ".lora_a"), try file.floats(name + ".lora_b"))
      // MLX-LM computes scale · (x A) B: both are transposed.
      func transposed(_ values: [Float], columns: Int) -> [Float] {
        let rows = values.count / columns
        return values.indices.map { index in
          let (column, row) = index.quotientAndRemainder(dividingBy: rows)
          return values[row * columns + column]
        }
      }
      let found = product(
        transposed(a, columns: 4), transposed(b, columns: size.output), rank: 4, scale: scale)
      let wanted = product(update.a, update.b, rank: update.rank, scale: Double(update.scale))
      #expect(zip(found, wanted).allSatisfy { abs($0 - $1) <= 1e-5 })
      if usesDoRA { #expect(try file.floats(name + ".m") == update.magnitude) }
    }
  }

  /// Zeros would make a small adapter one of five gigabytes.
  @Test func mlxRefusesRanksThatAreTooDifferent() throws {
    defer { output.remove() }
    var config = config
    (config.hiddenSize, config.intermediateSize, config.layerCount) = (4096, 16_384, 32)
    func check(_ ranks: String) throws {
      let fields =
        #"{"peft_type":"LORA","r":1,"lora_alpha":1,"target_modules":"all-linear","rank_pattern":{\#(ranks)}}"#
      let targets = try TargetedProjection.all(
        in: JSONValue.parse(Array(fields.utf8), subject: "config"), model: config)
      let modules = targets.map { target in
        let shape = target.projection.shape(config)
        return ExportedFactors.Module(
          name: target.projection.fullName(layer: target.layer), projection: target.projection, rank: target.rank,
          alpha: target.alpha, scale: target.scale, columns: shape.input, outputs: shape.output)
      }
      try AdapterExport.checkPadding(modules, rank: modules.reduce(1) { max($0, $1.rank) })
    }
    #expect(
      modelError { try check(#""layers.0.self_attn.q_proj":512"#) }
        .hasPrefix("adapter_config.json: rank_pattern: MLX-LM has one rank, and with 512 for all updates"))
    #expect(throws: Never.self) { try check(#""layers.0.self_attn.q_proj":16"#) }
    #expect(throws: Never.self) { try check(#""q_proj":512,"k_proj":512,"v_proj":512,"o_proj":512"#) }
  }

  @Test func peftIsACopy() throws {
    defer { output.remove() }
    let adapter = try model.writeAdapter("a", ranks: [.q: 3], seed: 2)
    try AdapterExport.writePEFT(adapter.folder, to: target("copy"))
    for name in AdapterContents.fileNames {
      #expect(
        try Data(contentsOf: target("copy").appending(path: name))
          == Data(contentsOf: adapter.folder.appending(path: name)))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: target("copy").path).count == 2)
  }

  @Test func refusesNamingTheCulprit() throws {
    defer { output.remove() }
    let dora = try model.writeAdapter("dora", ranks: [.q: 3], seed: 2, usesDoRA: true)
    let plain = try model.writeAdapter("plain", ranks: [.q: 3], seed: 2)
    let file = target("a.gguf")
    #expect(
      modelError { try AdapterExport.writeGGUF(dora.folder, config: config, tables: tables, to: file, name: "a") }
        == "adapter_config.json: use_dora: GGUF's adapters have no magnitudes; merge the adapter instead")
    _ = try output.write("a.gguf", "mine")
    #expect(
      modelError { try AdapterExport.writeGGUF(plain.folder, config: config, tables: tables, to: file, name: "a") }
        .hasSuffix("a.gguf: exists already; name a new file or folder"))
    #expect(try String(contentsOf: file, encoding: .utf8) == "mine")
    let full = target("full")
    try FileManager.default.createDirectory(at: full, withIntermediateDirectories: true)
    _ = try output.write("full/x", "mine")
    #expect(
      modelError { try AdapterExport.writeMLX(plain.folder, config: config, tables: tables, to: full) }.hasSuffix(
        "full: is not empty; name a new folder"))
    #expect(
      modelError { try AdapterExport.writePEFT(plain.folder, to: full) }.hasSuffix("is not empty; name a new folder"))
    let other = try TinyModel(TinyShape(hidden: 64)).source().config
    #expect(
      modelError { try AdapterExport.writeMLX(plain.folder, config: other, tables: tables, to: target("b")) }
        .contains("lora_A.weight: shape"))
    // Values that the smaller format cannot hold.
    let weights = plain.folder.appending(path: "adapter_model.safetensors")
    let tensors = try SafetensorsFile(weights)
    try SafetensorsWriter.write(
      tensors.tensors.values.map {
        ($0.name, $0.shape, [Float](repeating: $0.name.contains("lora_B") ? 1e6 : 1, count: $0.elementCount))
      }, to: weights)
    #expect(
      modelError {
        try AdapterExport.writeGGUF(
          plain.folder, config: config, tables: tables, to: target("c.gguf"), type: .f16, name: "")
      }
        == "c.gguf: blk.0.attn_q.weight.lora_b: has values that F16 cannot hold")
    #expect(Set(try FileManager.default.contentsOfDirectory(atPath: output.url.path)) == ["a.gguf", "full"])
  }
}
