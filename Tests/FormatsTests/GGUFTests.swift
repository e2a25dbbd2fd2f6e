import Foundation
import TestSupport
import Testing

@testable import Formats

/// Held to the Python package `gguf` (scripts/fixtures/gguf_fixtures.py).
@Suite struct GGUFTests {
  @Test(arguments: [
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "tq1_0",
    "tq2_0", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs", "mxfp4", "nvfp4",
    "f64", "i8", "i16", "i32", "i64",
  ])
  func dequantizesBitForBit(name: String) throws {
    let file = try GGUFFile(formatFixture("types.gguf"))
    let expected = try SafetensorsFile(formatFixture("types.safetensors")).floats(name)
    for rows in [0..<4, 1..<2, 2..<4, 3..<3] {
      var values = [Float](repeating: .nan, count: rows.count * 256)
      try values.withUnsafeMutableBufferPointer { try file.readRows(name, rows: rows, into: $0) }
      #expect(bits(values) == bits(Array(expected[(rows.lowerBound * 256)..<(rows.upperBound * 256)])))
    }
  }

  /// Every format that has a block layout has a conversion.
  @Test func everyLayoutHasAConversion() {
    for code in UInt32(0)..<64 {
      guard let block = GGUFTensorType(code: code).block else { continue }
      let source = [UInt8](repeating: 0, count: block.bytes)
      var values = [Float](repeating: .nan, count: block.elements)
      source.withUnsafeBytes { source in
        values.withUnsafeMutableBufferPointer {
          GGUFDequantizer.dequantize(source, type: GGUFTensorType(code: code), into: $0)
        }
      }
      #expect(values.allSatisfy { $0 == 0 }, "\(GGUFTensorType(code: code))")
    }
  }

  @Test func refusesTypesByName() throws {
    let file = try GGUFFile(formatFixture("types.gguf"))
    var values = [Float](repeating: 0, count: 1024)
    let message = modelError {
      try values.withUnsafeMutableBufferPointer { try file.readRows("q8_k", rows: 0..<4, into: $0) }
    }
    #expect(message == "types.gguf: q8_k: type Q8_K is not supported")
  }

  @Test func readsMetadataOfEveryType() throws {
    let file = try GGUFFile(formatFixture("types.gguf"))
    let expected: [String: GGUFValue] = [
      "uint8": .integer(200), "int8": .integer(-100), "uint16": .integer(60000), "int16": .integer(-30000),
      "uint32": .integer(4_000_000_000), "int32": .integer(-2_000_000_000), "uint64": .large(.max),
      "int64": .integer(.min), "float32": .float(Double(Float(0.1))), "float64": .float(0.1), "bool": .bool(true),
      "string": .string("grüße"),
    ]
    for (key, value) in expected { #expect(file.metadata["test.\(key)"] == value, "\(key)") }
    #expect(try file.strings("test.strings") == ["a", "", "ç"])
    #expect(try file.floats("test.floats") == [1.5, -2.5])
    #expect(try file.integers("test.integers") == [3, -4])
    guard case .array(let nested) = file.metadata["test.nested"] else {
      Issue.record("test.nested is no array")
      return
    }
    #expect(nested.count == 2)
  }

  @Test func readsConfiguration() throws {
    let source = try GGUFModel(formatFixture("llama.gguf"))
    #expect(
      source.config
        == ModelConfig(
          vocabularySize: 40, hiddenSize: 32, intermediateSize: 64, layerCount: 2, headCount: 4, keyValueHeadCount: 2,
          headSize: 8, contextLength: 128, rmsNormEpsilon: 1e-5,
          rope: RoPEParameters(theta: 500_000, scaling: .divisors([1, 10 / 3, 17 / 3, 8])), tiedHead: true, bosToken: 1,
          eosTokens: [2, 3]))
    guard case .gguf(let vocabulary) = source.tokenizer else {
      Issue.record("no vocabulary")
      return
    }
    #expect(vocabulary.tokens.count == 40 && vocabulary.tokens[7] == "t7")
    #expect(vocabulary.tokenTypes == [3] + [Int32](repeating: 1, count: 39))
    #expect(vocabulary.merges == ["t 1", "t 2"])
    #expect(vocabulary.model == "gpt2" && vocabulary.preTokenizer == "smollm" && !vocabulary.addBOS)
    #expect(vocabulary.chatTemplate == "{{ messages }}")
  }

  @Test func readsEveryTensorInHuggingFaceOrder() throws {
    let source = try GGUFModel(formatFixture("llama.gguf"))
    let expected = try SafetensorsFile(formatFixture("llama.safetensors"))
    #expect(expected.tensors.count == 2 + 2 * 9 + 1)
    for (name, tensor) in expected.tensors where name != "divisors" {
      #expect(source.shape(of: name) == tensor.shape)
      let values = try expected.floats(name)
      #expect(try bits(source.floats(name)) == bits(values), "\(name)")
      guard tensor.shape.count == 2 else { continue }
      let rows = 3..<(tensor.shape[0] - 2)
      let columns = tensor.shape[1]
      #expect(
        try bits(source.floats(name, rows: rows))
          == bits(Array(values[(rows.lowerBound * columns)..<(rows.upperBound * columns)])), "\(name)")
    }
  }

  @Test func refusesWrongFiles() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let original = [UInt8](try Data(contentsOf: formatFixture("llama.gguf")))
    func message(_ change: (inout [UInt8]) -> Void) throws -> String {
      var bytes = original
      change(&bytes)
      let url = try folder.write("m.gguf", bytes)
      return modelError { _ = try GGUFModel(url) }
    }
    func replace(_ bytes: inout [UInt8], _ text: String, _ with: String) {
      let wanted = Array(text.utf8)
      guard let start = bytes.indices.first(where: { bytes[$0...].starts(with: wanted) }) else {
        Issue.record("\(text) not found")
        return
      }
      bytes.replaceSubrange(start..<(start + wanted.count), with: Array(with.utf8))
    }
    #expect(try message { $0[0] = 0 } == "m.gguf: not a GGUF file")
    #expect(try message { $0[4] = 1 } == "m.gguf: GGUF version 1 is not supported")
    #expect(try message { $0[4...7] = [0, 0, 0, 3] } == "m.gguf: big-endian GGUF is not supported")
    #expect(try message { $0.removeLast(64) }.contains("truncated"))
    #expect(try message { $0[15] = 0x7F }.contains("more than fit into the file"))
    #expect(
      try message { replace(&$0, "blk.1.attn_q.weight", "blk.1.attn_w.weight") }
        == "m.gguf: blk.1.attn_q.weight: missing")
    #expect(
      try message { replace(&$0, "rope_freqs.weight", "blk.0.attn_q.bias") }
        == "m.gguf: blk.0.attn_q.bias: bias tensors are not supported")
    #expect(
      try message { replace(&$0, "rope_freqs.weight", "something.unknown") }
        == "m.gguf: something.unknown: unknown tensor")
    // The architecture's value is the first "llama" of the file.
    #expect(
      try message { replace(&$0, "llama", "bloom") }
        == "m.gguf: general.architecture: bloom is not supported")
    #expect(
      try message { replace(&$0, "llama.context_length", "llama.context_lengtz") }
        == "m.gguf: llama.context_length: missing")
  }

  @Test func damagedFilesThrowOnlyModelErrors() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    var generator = TinyRandom(seed: 1)
    for name in ["llama.gguf", "types.gguf"] {
      let original = [UInt8](try Data(contentsOf: formatFixture(name)))
      // Most of the damage goes to the header, which is the first part of both files.
      for round in 0..<600 {
        let split = round % 4 == 0 ? original.count : 2000
        let head = mutated(Array(original[..<split]), using: &generator)
        let url = try folder.write("m.gguf", head + original[split...])
        do {
          let file = try GGUFFile(url)
          for tensor in file.tensors.values where tensor.byteRange != nil && tensor.rows * tensor.columns < 1 << 16 {
            let rows = 0..<tensor.rows
            var values = [Float](repeating: 0, count: tensor.rows * tensor.columns)
            try values.withUnsafeMutableBufferPointer { try file.readRows(tensor.name, rows: rows, into: $0) }
          }
          let source = try GGUFModel(url)
          _ = try source.floats("model.layers.1.self_attn.q_proj.weight")
        } catch is ModelError {
        }
      }
    }
  }
}
