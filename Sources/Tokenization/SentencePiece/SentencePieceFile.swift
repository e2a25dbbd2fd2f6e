import Formats

/// What SentencePiece's tokenizer.model says (sentencepiece_model.proto).
struct SentencePieceFile {
  struct Piece {
    var text = ""
    var score: Float = 0
    var type = PieceType.normal
  }

  /// `SentencePiece.Type`; GGUF's `tokenizer.ggml.token_type` has the same numbers.
  enum PieceType: Int32 {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  /// `TrainerSpec.ModelType`
  enum ModelType: UInt64 {
    case unigram = 1
    case bpe, word, character
  }

  private(set) var pieces: [Piece] = []
  private(set) var modelType = ModelType.unigram
  private(set) var hasByteFallback = false
  private(set) var bosPiece = "<s>"
  private(set) var eosPiece = "</s>"
  private(set) var charsmap: [UInt8] = []
  private(set) var addsDummyPrefix = true
  private(set) var removesExtraSpaces = true
  private(set) var escapesSpaces = true

  private let subject: String

  /// - Throws: `ModelError` naming the field that is wrong or not supported
  init(_ data: [UInt8], subject: String) throws(ModelError) {
    self.subject = subject
    try Self.forEachField(of: data[...], "", subject) { field throws(ModelError) in
      switch (field.number, field.value) {
      case (1, .bytes(let message)): try readPiece(message)
      case (2, .bytes(let message)): try readTrainerSpec(message)
      case (3, .bytes(let message)): try readNormalizerSpec(message)
      case (5, .bytes(let message)):
        // Rules that would change decoded text.
        try Self.forEachField(of: message, "denormalizer_spec", subject) { field throws(ModelError) in
          if field.number == 2, case .bytes(let rules) = field.value, !rules.isEmpty {
            throw failure("denormalizer_spec", "is not supported")
          }
        }
      default: break
      }
    }
  }

  func failure(_ field: String, _ reason: String) -> ModelError {
    ModelError(subject, "tokenizer.model", field, reason: reason)
  }

  /// Calls `body` with each field of a message. Those that are not read change only training, or which pieces are drawn at
  /// random.
  private static func forEachField(
    of message: ArraySlice<UInt8>, _ name: String, _ subject: String,
    _ body: (ProtobufReader.Field) throws(ModelError) -> Void
  ) throws(ModelError) {
    var reader = ProtobufReader(message)
    while true {
      let field: ProtobufReader.Field?
      do {
        field = try reader.next()
      } catch {
        throw name.isEmpty
          ? ModelError(subject, "tokenizer.model", reason: error.reason)
          : ModelError(subject, "tokenizer.model", name, reason: error.reason)
      }
      guard let field else { return }
      try body(field)
    }
  }

  private func text(_ bytes: ArraySlice<UInt8>, _ field: String) throws(ModelError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw failure(field, "is not UTF-8") }
    return text
  }

  private mutating func readPiece(_ message: ArraySlice<UInt8>) throws(ModelError) {
    let name = "pieces[\(pieces.count)]"
    guard pieces.count < TokenizerDefinition.largestVocabulary else {
      throw failure(name, "more than \(TokenizerDefinition.largestVocabulary) pieces")
    }
    var piece = Piece()
    try Self.forEachField(of: message, name, subject) { field throws(ModelError) in
      switch (field.number, field.value) {
      case (1, .bytes(let bytes)): piece.text = try text(bytes, name)
      case (2, .fixed32(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .integer(let value)):
        guard let type = Int32(exactly: value).flatMap(PieceType.init(rawValue:)) else {
          throw failure(name, "has the unknown type \(value)")
        }
        piece.type = type
      default: break
      }
    }
    if piece.text.isEmpty { throw failure(name, "has no text") }
    guard piece.score.isFinite else { throw failure(name, "'\(piece.text)' has the score \(piece.score)") }
    pieces.append(piece)
  }

  private mutating func readTrainerSpec(_ message: ArraySlice<UInt8>) throws(ModelError) {
    try Self.forEachField(of: message, "trainer_spec", subject) { field throws(ModelError) in
      switch (field.number, field.value) {
      case (3, .integer(let value)):
        guard let type = ModelType(rawValue: value), type == .unigram || type == .bpe else {
          let name = ModelType(rawValue: value).map { "\($0)".uppercased() } ?? "\(value)"
          throw failure("trainer_spec.model_type", "\(name) is not supported")
        }
        modelType = type
      case (24, .integer(let value)) where value != 0:
        throw failure("trainer_spec.treat_whitespace_as_suffix", "is not supported")
      case (35, .integer(let value)): hasByteFallback = value != 0
      case (46, .bytes(let bytes)): bosPiece = try text(bytes, "trainer_spec.bos_piece")
      case (47, .bytes(let bytes)): eosPiece = try text(bytes, "trainer_spec.eos_piece")
      default: break
      }
    }
  }

  private mutating func readNormalizerSpec(_ message: ArraySlice<UInt8>) throws(ModelError) {
    try Self.forEachField(of: message, "normalizer_spec", subject) { field throws(ModelError) in
      switch (field.number, field.value) {
      case (2, .bytes(let bytes)): charsmap = Array(bytes)
      case (3, .integer(let value)): addsDummyPrefix = value != 0
      case (4, .integer(let value)): removesExtraSpaces = value != 0
      case (5, .integer(let value)): escapesSpaces = value != 0
      default: break
      }
    }
  }
}
