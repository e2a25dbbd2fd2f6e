public import Foundation

/// A published model, read a few rows at a time, so that no whole tensor need be in memory.
///
/// Tensors go by their Hugging Face names ("model.layers.0.self_attn.q_proj.weight") and in Hugging Face's row
/// order, whatever the file calls them and however it orders them (GGUF permutes the rows of q and k).
public protocol PublishedModel: Sendable {
  var config: ModelConfig { get }
  /// Where the tokenizer is, in this source's own form.
  var tokenizer: TokenizerSource { get }
  /// Every file whose contents define the model; hashed to name the prepared base.
  var files: [URL] { get }
  /// Row-major shape of a tensor, `nil` if there is none of this name: [rows, columns], or [n] for a vector.
  func shape(of name: String) -> [Int]?
  /// Rows `rows` of a tensor (a vector is one row) as f32, into `rows.count × columns` floats.
  /// Throws `ModelError` naming file and tensor for a short read or a type that is not supported.
  func read(_ name: String, rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws
  /// How the source keeps a linear module's weight, which decides what preparing makes of it.
  func storage(of name: String) -> WeightStorage
  /// A tensor's own NF4 codes and scales, `nil` if it is not stored so. What is prepared from them keeps the codes.
  func nf4(_ name: String) throws -> NF4Tensor?
}

extension PublishedModel {
  public func storage(of name: String) -> WeightStorage { .plain }
  public func nf4(_ name: String) throws -> NF4Tensor? { nil }
}

/// How a source keeps the weight of a linear module.
public enum WeightStorage: Sendable, Equatable {
  /// Values of a model that is not in NF4; preparing quantises them.
  case plain
  /// NF4 codes, with a scale for so many elements of the flattened matrix; preparing keeps both.
  case nf4(blockSize: Int)
  /// Values that a model in NF4 leaves unquantised; preparing keeps them as they are.
  case exact
}

/// A matrix in NF4, as `NF4.quantize` makes it.
public struct NF4Tensor: Sendable, Equatable {
  /// [rows, columns]
  public var shape: [Int]
  /// Elements that share a scale, over the flattened matrix.
  public var blockSize: Int
  /// [⌈rows × columns / 2⌉], row-major, the even element in the high nibble.
  public var packed: [UInt8]
  /// [⌈rows × columns / blockSize⌉], decoded if the file quantises the scales too.
  public var absmax: [Float]

  public init(shape: [Int], blockSize: Int, packed: [UInt8], absmax: [Float]) {
    self.shape = shape
    self.blockSize = blockSize
    self.packed = packed
    self.absmax = absmax
  }
}

/// What a tokenizer is built from.
public enum TokenizerSource: Sendable {
  /// A folder with tokenizer.json (and tokenizer_config.json, generation_config.json where they exist).
  case huggingFace(URL)
  /// Vocabulary and merges out of a GGUF file's metadata.
  case gguf(GGUFVocabulary)
}

/// The `tokenizer.*` metadata of a GGUF file.
public struct GGUFVocabulary: Sendable, Equatable {
  /// `tokenizer.ggml.model`: "gpt2" is byte-level BPE, "llama" SentencePiece.
  public var model: String
  /// `tokenizer.ggml.pre`: names the split pattern, "smollm", "llama-bpe", "qwen2" and so on.
  public var preTokenizer: String
  public var tokens: [String]
  /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  public var tokenTypes: [Int32]
  public var scores: [Float]
  public var merges: [String]
  public var bosToken: Int32?
  public var eosToken: Int32?
  public var unknownToken: Int32?
  public var addBOS: Bool
  public var addSpacePrefix: Bool
  public var chatTemplate: String?

  public init(
    model: String, preTokenizer: String, tokens: [String], tokenTypes: [Int32], scores: [Float], merges: [String],
    bosToken: Int32?, eosToken: Int32?, unknownToken: Int32?, addBOS: Bool, addSpacePrefix: Bool, chatTemplate: String?
  ) {
    self.model = model
    self.preTokenizer = preTokenizer
    self.tokens = tokens
    self.tokenTypes = tokenTypes
    self.scores = scores
    self.merges = merges
    self.bosToken = bosToken
    self.eosToken = eosToken
    self.unknownToken = unknownToken
    self.addBOS = addBOS
    self.addSpacePrefix = addSpacePrefix
    self.chatTemplate = chatTemplate
  }
}
