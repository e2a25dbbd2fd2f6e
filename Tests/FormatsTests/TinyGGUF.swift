import Foundation
import TestSupport

@testable import Formats

/// A made-up model as a GGUF file, to be changed before it is written.
struct TinyGGUF {
  typealias Value = GGUFBytes.Value

  var metadata: [(key: String, value: Value)]
  /// In the file's names and row order.
  var tensors: [(name: String, shape: [Int], values: [Float])]

  init(_ model: TinyModel) {
    let shape = model.shape
    let tokens = (0..<shape.vocabulary).map { $0 == 0 ? "<end>" : "t\($0)" }
    metadata = [
      ("general.architecture", .string("llama")), ("llama.context_length", .integer(UInt32(shape.context))),
      ("llama.embedding_length", .integer(UInt32(shape.hidden))),
      ("llama.feed_forward_length", .integer(UInt32(shape.intermediate))),
      ("llama.block_count", .integer(UInt32(shape.layers))),
      ("llama.attention.head_count", .integer(UInt32(shape.heads))),
      ("llama.attention.head_count_kv", .integer(UInt32(shape.keyValueHeads))),
      ("llama.attention.key_length", .integer(UInt32(shape.headSize))),
      ("llama.attention.layer_norm_rms_epsilon", .float(1e-5)), ("tokenizer.ggml.model", .string("gpt2")),
      ("tokenizer.ggml.pre", .string("gpt-2")), ("tokenizer.ggml.tokens", .strings(tokens)),
      ("tokenizer.ggml.token_type", .integers(tokens.indices.map { $0 == 0 ? 3 : 1 })),
      ("tokenizer.ggml.merges", .strings(["t 1"])), ("tokenizer.ggml.eos_token_id", .integer(0)),
    ]
    tensors = model.tensors.sorted { $0.key < $1.key }.map { name, tensor in
      var values = tensor.values
      if name.hasSuffix("q_proj.weight") || name.hasSuffix("k_proj.weight") {
        let columns = tensor.shape[1]
        for row in 0..<tensor.shape[0] {
          let target = GGUFModel.permutedRow(row, headSize: shape.headSize)
          for column in 0..<columns { values[target * columns + column] = tensor.values[row * columns + column] }
        }
      }
      return (GGUFNames.fileName(of: name), tensor.shape, values)
    }
  }

  /// Sets a key, or takes it out with `nil`.
  mutating func set(_ key: String, _ value: Value?) {
    metadata.removeAll { $0.key == key }
    if let value { metadata.append((key, value)) }
  }

  /// The parts that `gguf-split` would make: the first with the metadata and no tensors, as its option has it.
  func parts(_ count: Int) -> [TinyGGUF] {
    (0..<count).map { number in
      var part = self
      if number > 0 { part.metadata = [] }
      part.set("split.no", .integer(UInt32(number)))
      part.set("split.count", .integer(UInt32(count)))
      part.set("split.tensors.count", .integer(UInt32(tensors.count)))
      part.tensors =
        number == 0 ? [] : tensors.enumerated().filter { $0.offset % (count - 1) == number - 1 }.map(\.element)
      return part
    }
  }

  var bytes: [UInt8] { GGUFBytes(metadata: metadata, tensors: tensors).bytes }
}
