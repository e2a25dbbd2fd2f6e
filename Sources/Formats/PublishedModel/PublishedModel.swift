public import Foundation

/// A published model, read a few rows at a time, so that no whole tensor need be in memory.
///
/// Tensors have their Hugging Face names ("model.layers.0.self_attn.q_proj.weight") and Hugging Face's row order, whatever
/// the file calls them and however it orders them. (GGUF permutes the rows of q and k.)
public protocol PublishedModel: Sendable {
  /// The model's sizes and constants.
  var config: ModelConfig { get }
  /// What the tokenizer is built from.
  var tokenizer: TokenizerSource { get }
  /// The files whose contents define the model. Their hash names the prepared base.
  var files: [URL] { get }
  /// What a user should know of how the files are read, each in one line.
  var notes: [String] { get }
  /// The row-major shape of a tensor, [rows, columns] or, of a vector, [n]; `nil` if there is no tensor of this name.
  func shape(of name: String) -> [Int]?
  /// Reads rows of a tensor as f32; a vector is one row.
  /// - Parameter destination: `rows.count × columns` floats
  /// - Throws: `ModelError` naming file and tensor, for a short read or a type that is not supported
  func read(_ name: String, rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws
  /// How a projection's weight is stored, which decides what preparing does with it.
  func storage(of name: String) -> WeightStorage
  /// The NF4 codes and scales of a tensor, which preparing keeps; `nil` if it is not stored in NF4.
  /// - Throws: `ModelError` naming file and tensor, for a short read or a scale that is not finite
  func nf4(_ name: String) throws -> NF4Tensor?
}

extension PublishedModel {
  /// None.
  public var notes: [String] { [] }
  /// `plain`, as in formats without NF4.
  public func storage(of name: String) -> WeightStorage { .plain }
  /// `nil`, as in formats without NF4.
  public func nf4(_ name: String) throws -> NF4Tensor? { nil }
}

/// How the weight of a projection is stored.
public enum WeightStorage: Sendable, Equatable {
  /// Values of a model that is not in NF4; preparing quantises them.
  case plain
  /// NF4 codes, and a scale for each `blockSize` elements of the flattened matrix; preparing keeps both.
  case nf4(blockSize: Int)
  /// Values that a model in NF4 leaves unquantised; preparing keeps them as they are.
  case exact
}

/// A matrix in NF4 (Dettmers et al., 2023), in the layout of `NF4.quantize`.
public struct NF4Tensor: Sendable, Equatable {
  /// [rows, columns]
  public var shape: [Int]
  /// Elements that share a scale, over the flattened matrix.
  public var blockSize: Int
  /// [⌈rows × columns / 2⌉], row-major, the even element in the high nibble.
  public var packed: [UInt8]
  /// [⌈rows × columns / blockSize⌉], decoded if the file quantises the scales too.
  public var absmax: [Float]

  /// - Parameters: as the properties
  public init(shape: [Int], blockSize: Int, packed: [UInt8], absmax: [Float]) {
    self.shape = shape
    self.blockSize = blockSize
    self.packed = packed
    self.absmax = absmax
  }
}

/// What a tokenizer is built from.
public enum TokenizerSource: Sendable {
  /// A folder with tokenizer.json, tekken.json or tokenizer.model (and tokenizer_config.json, generation_config.json where
  /// they exist).
  case huggingFace(URL)
  /// Vocabulary and merges out of a GGUF file's metadata.
  case gguf(GGUFVocabulary)

  /// What a user should know of the vocabulary, each in one line.
  public var notes: [String] {
    guard case .gguf(let vocabulary) = self, vocabulary.model == "gpt2", vocabulary.preTokenizer.isEmpty else {
      return []
    }
    return [
      "tokenizer.ggml.pre: missing, so text is split by llama.cpp's default, which may not be what the model was trained "
        + "with; convert the model again"
    ]
  }
}

/// The `tokenizer.*` metadata of a GGUF file.
public struct GGUFVocabulary: Sendable, Equatable {
  /// `tokenizer.ggml.model`: "gpt2" is byte-level BPE, "llama" SentencePiece's BPE, "gemma4" BPE over characters, "t5" a
  /// unigram model.
  public var model: String
  /// `tokenizer.ggml.pre`: names the split pattern, "smollm", "llama-bpe", "qwen2" and so on. Empty in files that name none,
  /// whose texts llama.cpp splits by a default.
  public var preTokenizer: String
  /// The texts, by id.
  public var tokens: [String]
  /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  public var tokenTypes: [Int32]
  /// SentencePiece's, by id; empty for byte-level BPE.
  public var scores: [Float]
  /// Pairs with a space between them, first the one that merges first; empty for SentencePiece.
  public var merges: [String]
  /// Begins a text.
  public var bosToken: Int32?
  /// Ends a text.
  public var eosToken: Int32?
  /// Replaces text that the vocabulary lacks.
  public var unknownToken: Int32?
  /// Whether `bosToken` is put before a text.
  public var addBOS: Bool
  /// Whether a space is put before a text.
  public var addSpacePrefix: Bool
  /// Jinja; `nil` if the file has none.
  public var chatTemplate: String?
  /// SentencePiece's compiled normalization rules; empty for none.
  public var precompiledCharsmap: [UInt8]
  /// Whether runs of spaces become one, and those at a text's ends nothing.
  public var removesExtraSpaces: Bool

  /// - Parameters: as the properties
  public init(
    model: String, preTokenizer: String, tokens: [String], tokenTypes: [Int32], scores: [Float], merges: [String],
    bosToken: Int32?, eosToken: Int32?, unknownToken: Int32?, addBOS: Bool, addSpacePrefix: Bool,
    chatTemplate: String?, precompiledCharsmap: [UInt8] = [], removesExtraSpaces: Bool = false
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
    self.precompiledCharsmap = precompiledCharsmap
    self.removesExtraSpaces = removesExtraSpaces
  }
}
