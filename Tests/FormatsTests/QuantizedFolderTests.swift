import Foundation
import Kernels
import Model
import TestSupport
import Testing

@testable import Formats

/// Quantised folders, held to the libraries that define their forms (scripts/fixtures/quantized_fixtures.py).
@Suite struct QuantizedFolderTests {
  static let names = [
    "gptq-4bit-act-order", "gptq-8bit-v2", "gptq-2bit", "awq", "fp8-blocks", "fp8-tensor", "fbgemm-fp8",
    "compressed-fp8", "compressed-packed", "compressed-int8", "compressed-2bit", "compressed-blocks", "bnb-int8",
    "bnb-fp4", "bnb-fp4-nested",
  ]

  private func fixture(_ name: String) -> URL { formatFixture("quantized/\(name)") }
  private func expected(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(fixture(name).appending(path: "expected.safetensors"))
  }

  @Test(arguments: names) func everyWeightHasTheLibrarysValues(name: String) throws {
    let source = try #require(try openPublishedModel(at: fixture(name)) as? HuggingFaceModel)
    let expected = try expected(name)
    #expect(expected.tensors.count == 7)
    for (key, tensor) in expected.tensors {
      let values = try expected.floats(key)
      let (rows, columns) = (tensor.shape[0], tensor.shape[1])
      #expect(source.shape(of: key) == tensor.shape)
      // bitsandbytes decodes doubly quantised scales by fused operations.
      let tolerance: Float = name == "bnb-fp4-nested" ? 1e-6 : 0
      func expectEqual(_ rows: Range<Int>) throws {
        let read = try source.floats(key, rows: rows)
        for (value, reference) in zip(read, values[rows.lowerBound * columns..<rows.upperBound * columns]) {
          guard abs(value - reference) > tolerance * abs(reference) || value.isNaN else { continue }
          Issue.record("\(key) \(rows): \(value) instead of \(reference)")
          return
        }
      }
      for rows in [0..<rows, 0..<1, 3..<10, 7..<8, 8..<16, rows - 5..<rows, 4..<4] { try expectEqual(rows) }
      #expect(source.storage(of: key) == .plain)
      #expect(try source.nf4(key) == nil)
    }
  }

  /// What is prepared of codes is what is prepared of the values that they stand for.
  @Test(arguments: names) func preparingIsThatOfTheValues(name: String) throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let source = try openPublishedModel(at: fixture(name))
    let plain = folder.url.appending(path: "plain")
    try FileManager.default.createDirectory(at: plain, withIntermediateDirectories: true)
    let config = try HuggingFaceFields(fixture(name).appending(path: "config.json"), limit: 1 << 20).object.pairs
    let text = JSONValue.object(JSONObject(keepingFirst: config.filter { $0.key != "quantization_config" })).encoded
    try Data(text).write(to: plain.appending(path: "config.json"))
    try SafetensorsWriter.write(
      try source.config.tensorShapes().map { ($0.key, $0.value, try source.floats($0.key)) },
      to: plain.appending(path: "model.safetensors"))
    let store = BaseStore(dataFolder: folder.url.appending(path: "data"))
    let pool = ThreadPool(threads: 1)
    let values = try openPublishedModel(at: plain)
    #expect(try store.prepare(source, pool: pool).fingerprint == store.prepare(values, pool: pool).fingerprint)
  }

  // MARK: what is wrong

  private struct Stored {
    var type: SafetensorsType
    var shape: [Int]
    var bytes: [UInt8]

    init(_ type: SafetensorsType, _ shape: [Int], _ bytes: [UInt8]) {
      (self.type, self.shape, self.bytes) = (type, shape, bytes)
    }
    init(integers values: [Int32]) { self.init(.i32, [values.count], values.withUnsafeBytes { Array($0) }) }
    init(floats values: [Float], shape: [Int]) { self.init(.f32, shape, values.withUnsafeBytes { Array($0) }) }
  }

  /// A copy of a fixture with other tensors, and another text in config.json.
  private func copy(
    _ name: String, replacing texts: [(String, String)] = [],
    _ change: (inout [String: Stored]) throws -> Void = { _ in
    }
  ) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    var config = try String(contentsOf: fixture(name).appending(path: "config.json"), encoding: .utf8)
    for (old, new) in texts {
      #expect(config.contains(old), "\(old)")
      config = config.replacingOccurrences(of: old, with: new)
    }
    _ = try folder.write("config.json", config)
    let file = try SafetensorsFile(fixture(name).appending(path: "model.safetensors"))
    var tensors = try file.tensors.mapValues { Stored($0.type, $0.shape, try file.bytes($0.name)) }
    try change(&tensors)
    let writer = try SafetensorsWriter(
      folder.url.appending(path: "model.safetensors"),
      entries: tensors.map { SafetensorsWriter.Entry(name: $0.key, type: $0.value.type, shape: $0.value.shape) })
    for entry in writer.order { try (tensors[entry.name]?.bytes ?? []).withUnsafeBytes { try writer.append($0) } }
    try writer.finish()
    return folder
  }

  /// What opening a changed copy and reading all of it says.
  private func message(
    _ name: String, replacing texts: [(String, String)] = [],
    _ change: (inout [String: Stored]) throws -> Void = { _ in
    }
  ) throws -> String {
    let folder = try copy(name, replacing: texts, change)
    defer { folder.remove() }
    return modelError {
      let source = try HuggingFaceModel(folder.url)
      for key in source.config.tensorShapes().keys.sorted() { _ = try source.floats(key) }
    }
  }

  private let q = "model.layers.0.self_attn.q_proj"

  @Test func tensorsThatDoNotFitAreNamed() throws {
    func starts(_ message: String, _ tensor: String, _ reason: String) {
      #expect(message.hasPrefix("model.safetensors: \(q).\(tensor): \(reason)"), "\(message)")
    }
    let gptq = "gptq-4bit-act-order"
    starts(try message(gptq) { $0["\(q).qzeros"] = nil }, "qzeros", "missing")
    starts(try message(gptq) { $0["\(q).g_idx"] = nil }, "g_idx", "missing")
    starts(try message(gptq) { $0["\(q).scales"]?.shape = [32, 2] }, "scales", "shape [32, 2] instead of [2, 32]")
    starts(try message(gptq) { $0["\(q).qweight"]?.type = .f32 }, "qweight", "type F32 instead of I32")
    for group in [2, -1, .min, .max] as [Int32] {
      let order = [Int32](repeating: 1, count: 31) + [group]
      starts(try message(gptq) { $0["\(q).g_idx"] = Stored(integers: order) }, "g_idx", "group \(group) of column 31")
    }
    starts(
      try message(gptq) { $0["\(q).bias"] = Stored(floats: [Float](repeating: 1, count: 32), shape: [32]) }, "bias",
      "bias tensors are not supported")
    for value in [Float.nan, .infinity] {
      let scales = [Float](repeating: 1, count: 63) + [value]
      starts(
        try message(gptq) { $0["\(q).scales"] = Stored(floats: scales, shape: [2, 32]) }, "scales",
        "has scales that are not finite")
      starts(
        try message("awq") { $0["\(q).scales"] = Stored(floats: scales, shape: [2, 32]) }, "scales",
        "has scales that are not finite")
    }
    starts(try message("awq") { $0["\(q).qweight"]?.shape = [4, 32] }, "qweight", "shape [4, 32] instead of [32, 4]")
    starts(
      try message("fp8-blocks") { $0["\(q).weight_scale_inv"] = Stored(floats: [1, 2, 3], shape: [3, 1]) },
      "weight_scale_inv", "shape [3, 1] fits neither")
    starts(try message("fp8-blocks") { $0["\(q).weight_scale_inv"] = nil }, "weight_scale_inv", "missing")
    starts(try message("bnb-int8") { $0["\(q).SCB"] = nil }, "SCB", "missing")
    starts(try message("bnb-int8") { $0["\(q).weight_format"]?.bytes = [2] }, "weight_format", "2, another order")
    starts(
      try message("bnb-int8") { $0["\(q).SCB"] = Stored(floats: [1], shape: [1]) }, "SCB",
      "is not one scale for each row")
    let packed = "compressed-packed"
    starts(try message(packed) { $0["\(q).weight_shape"] = nil }, "weight_shape", "missing")
    starts(
      try message(packed) { $0["\(q).weight_shape"] = Stored(integers: [32, 31]) }, "weight_shape",
      "[32, 31] instead of")
    starts(try message(packed) { $0["\(q).weight_scale"]?.shape = [16, 4] }, "weight_scale", "shape [16, 4] for")
    starts(try message(packed) { $0["\(q).weight_packed"]?.shape = [16, 8] }, "weight_packed", "shape [16, 8] does")
    let order = [Int32](repeating: 0, count: 31) + [2]
    starts(
      try message(packed) { $0["\(q).weight_g_idx"] = Stored(integers: order) }, "weight_g_idx", "group 2 of column 31")
    starts(
      try message("bnb-fp4") { $0["\(q).weight.quant_map"] = Stored(floats: NF4.values, shape: [16]) },
      "weight.quant_map",
      "is not the FP4 code")
    #expect(
      try message("compressed-packed") { $0["\(q).weight_global_scale"] = Stored(floats: [1], shape: [1]) }
        == "model.safetensors: \(q).weight_global_scale: unknown tensor")
  }

  @Test(arguments: [
    ("gptq-4bit-act-order", "\"bits\": 4", "\"bits\": 3", "bits: 3 is not"),
    ("gptq-4bit-act-order", "\"group_size\": 16", "\"group_size\": 0", "group_size: 0"),
    ("gptq-4bit-act-order", "\"group_size\": 16", "\"group_size\": 9223372036854775807", "group_size: 9223372036"),
    ("gptq-2bit", "\"checkpoint_format\": \"gptq\"", "\"checkpoint_format\": \"marlin\"", "checkpoint_format: marlin"),
    ("gptq-2bit", "\"sym\": true", "\"dynamic\": {\"-:.*\": {}}", "dynamic: is not supported"),
    ("awq", "\"version\": \"gemm\"", "\"version\": \"gemv\"", "version: gemv is not supported"),
    ("awq", "\"zero_point\": true", "\"zero_point\": false", "zero_point: false is not supported"),
    ("awq", "\"bits\": 4", "\"bits\": 8", "bits: 8 is not supported"),
    ("awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"hqq\"", "quant_method: hqq is not supported"),
    ("fp8-blocks", "\"fmt\": \"e4m3\"", "\"fmt\": \"e3m4\"", "fmt: e3m4 is not supported"),
    ("fp8-blocks", "   20,\n", "   0,\n", "weight_block_size: [0, 24] is not two sizes"),
    ("fp8-blocks", "   20,\n", "", "weight_block_size: [24] is not two sizes"),
    ("fp8-tensor", "\"activation_scheme\"", "\"from_the_future\"", "from_the_future: is not supported"),
    ("compressed-packed", "\"pack-quantized\"", "\"nvfp4-pack-quantized\"", "format: nvfp4-pack-quantized is not"),
    ("compressed-packed", "\"kv_cache_scheme\": null", "\"kv_cache_scheme\": {\"num_bits\": 8}", "kv_cache_scheme: is"),
    ("compressed-packed", "\"transform_config\": {}", "\"transform_config\": {\"a\": 1}", "transform_config: is not"),
    ("compressed-packed", "\"sparsity_config\": {}", "\"sparsity_config\": {\"format\": \"x\"}", "format: x is not"),
    ("compressed-packed", "\"num_bits\": 4", "\"num_bits\": 3", "num_bits: 3 is not supported"),
    ("compressed-packed", "\"strategy\": \"group\"", "\"strategy\": \"token\"", "strategy: token is not supported"),
    ("compressed-packed", "\"config_groups\"", "\"global_compression_ratio\"", "config_groups: missing"),
    ("bnb-int8", "\"load_in_4bit\": false", "\"load_in_4bit\": true", "load_in_8bit: together with load_in_4bit"),
    ("bnb-fp4", "\"fp4\"", "\"int4\"", "bnb_4bit_quant_type: int4 is not supported"),
  ]) func configurationsAreRefusedByName(name: String, old: String, new: String, reason: String) throws {
    let message = try message(name, replacing: [(old, new)])
    #expect(message.hasPrefix("config.json: quantization_config: ") && message.contains(reason), "\(message)")
  }

  @Test(arguments: names) func quantisedTensorsNeedTheirConfiguration(name: String) throws {
    let message = try message(name, replacing: [("\"quantization_config\"", "\"quantization_settings\"")])
    #expect(
      message.hasPrefix("config.json: quantization_config: missing, but model.layers.0.")
        && message.hasSuffix("is quantised"), "\(message)")
  }

  @Test(arguments: names) func damagedFilesThrowOnlyModelErrors(name: String) throws {
    var generator = TinyRandom(seed: 11)
    let copy = try copy(name)
    defer { copy.remove() }
    for file in ["config.json", "model.safetensors"] {
      let original = [UInt8](try Data(contentsOf: copy.url.appending(path: file)))
      let head = min(original.count, 4000)
      for round in 0..<80 {
        let damaged =
          round % 3 == 0
          ? mutated(original, using: &generator)
          : mutated(Array(original[..<head]), using: &generator) + original[head...]
        _ = try copy.write(file, damaged)
        do {
          let source = try HuggingFaceModel(copy.url)
          for key in source.config.tensorShapes().keys { _ = try source.floats(key) }
        } catch is ModelError {}
      }
      _ = try copy.write(file, original)
    }
  }
}
