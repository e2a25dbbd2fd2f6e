public import Formats
import Synchronization

/// Converts text to token ids and back: byte-level BPE (Llama 3, Qwen, SmolLM), SentencePiece's BPE (Llama 2, Mistral) and
/// SentencePiece's unigram models.
///
/// Ids equal those of the library that the vocabulary's file belongs to: `tokenizers` for tokenizer.json, sentencepiece for
/// tokenizer.model, tiktoken for its ranks and for tekken.json, llama.cpp for GGUF. Any number of threads can use a tokenizer
/// at the same time.
public final class Tokenizer: Sendable {
  /// One more than the largest id.
  public let vocabularySize: Int
  /// Begins a text; `nil` if the tokenizer has no such token.
  public let bosToken: Int32?
  /// The tokenizer's own end-of-sequence token, `eos_token` in templates; `nil` if it has none.
  public let eosToken: Int32?
  /// The ids that end a generation.
  public let eosTokens: [Int32]
  /// Whether the model expects a beginning-of-sequence token before a text.
  public let addsBOS: Bool
  /// Chat templates (Jinja) by name. If there is only one, it is "default".
  public let chatTemplates: [String: String]
  /// Special tokens by their text.
  public let specialTokens: [String: Int32]

  private let texts: ByteStringTable
  private let decoded: ByteStringTable
  private let kinds: [TokenKind]
  private let prefixTokens: [Int32]
  private let rawMatcher: AddedTokenMatcher
  private let normalizedMatcher: AddedTokenMatcher
  private let normalizer: Normalizer
  private let preTokenizer: PreTokenizer
  private let model: TokenModel
  /// The bytes of the longest token.
  public let longestTokenBytes: Int
  /// How many spaces are removed at the beginning of a decoded text: SentencePiece puts one before the first word.
  let spacesDroppedAtStart: Int
  private let scratchPool = Mutex<[EncodingScratch]>([])
  private static let pooledScratches = 8

  enum TokenKind: UInt8, Sendable {
    case absent, ordinary, special
  }

  /// - Parameter name: of the model, for errors
  /// - Throws: `ModelError` naming the file and the field that is wrong or not supported
  public convenience init(_ source: TokenizerSource, name: String) throws {
    switch source {
    case .huggingFace(let folder): self.init(try HuggingFaceTokenizerReader(folder, name: name).definition())
    case .gguf(let vocabulary): self.init(try TokenizerDefinition(vocabulary, name: name))
    }
  }

  init(_ definition: TokenizerDefinition) {
    vocabularySize = definition.texts.count
    bosToken = definition.bosToken
    eosTokens = definition.eosTokens
    eosToken = definition.eosToken ?? definition.eosTokens.first
    prefixTokens = definition.prefixTokens
    addsBOS = !definition.prefixTokens.isEmpty
    chatTemplates = definition.chatTemplates
    texts = definition.textTable
    let decodedBytes = definition.decodedBytes()
    decoded = ByteStringTable(decodedBytes) { _ in false }
    longestTokenBytes = decodedBytes.lazy.compactMap { $0?.count }.max() ?? 0
    var kinds = definition.texts.map { $0 == nil ? TokenKind.absent : .ordinary }
    var specialTokens: [String: Int32] = [:]
    for token in definition.addedTokens where token.isSpecial {
      kinds[Int(token.id)] = .special
      specialTokens[token.content] = token.id
    }
    self.kinds = kinds
    self.specialTokens = specialTokens
    let normalizer = definition.normalizer
    let isVerbatim = definition.findsAddedTokensVerbatim
    rawMatcher = AddedTokenMatcher(definition.addedTokens.filter { !$0.isNormalized }) { Array($0.content.utf8) }
    normalizedMatcher = AddedTokenMatcher(definition.addedTokens.filter(\.isNormalized)) {
      isVerbatim ? Array($0.content.utf8) : normalizer.normalize(Array($0.content.utf8))
    }
    self.normalizer = normalizer
    preTokenizer = definition.preTokenizer
    model = definition.model
    spacesDroppedAtStart = definition.spacesDroppedAtStart
  }

  /// The default chat template; `nil` if the model has none.
  public var chatTemplate: String? { chatTemplates["default"] }

  // MARK: Encoding

  /// The ids of a text.
  /// - Parameters:
  ///   - parsingSpecialTokens: whether special tokens that are spelled out in the text ("<|im_start|>") become those tokens;
  ///     otherwise they are text
  ///   - data: UTF-8 byte ranges of the text, ascending and not overlapping, in which special tokens are text in any case, as
  ///     is one that only reaches into such a range. The ids of the other text do not depend on it.
  ///   - addingBOS: whether the beginning-of-sequence token comes first; `nil` for what the model expects
  ///   - limit: encoding stops once there are so many ids
  ///   - isCancelled: asked often; encoding stops once it is true
  public func encode(
    _ text: String, parsingSpecialTokens: Bool, except data: [Range<Int>] = [], addingBOS: Bool? = nil,
    limit: Int = .max, isCancelled: (() -> Bool)? = nil
  ) -> [Int32] {
    switch model {
    case .bytePairs(let model):
      encode(text, with: model, parsingSpecialTokens, except: data, addingBOS, limit, isCancelled)
    case .unigram(let model):
      encode(text, with: model, parsingSpecialTokens, except: data, addingBOS, limit, isCancelled)
    }
  }

  private func encode<Model: PieceModel>(
    _ text: String, with model: Model, _ parsingSpecialTokens: Bool, except data: [Range<Int>], _ addingBOS: Bool?,
    _ limit: Int, _ isCancelled: (() -> Bool)?
  ) -> [Int32] {
    var ids: [Int32] = []
    if addingBOS ?? addsBOS { ids = prefixTokens.isEmpty ? [bosToken].compactMap(\.self) : prefixTokens }
    let scratch = scratchPool.withLock { $0.popLast() } ?? EncodingScratch()
    var sink = IDSink(model: model, scratch: scratch, limit: limit, isCancelled: isCancelled, ids: ids)
    let data = parsingSpecialTokens ? data : []
    // The ranges that the current segment or a later one overlaps.
    var left = normalizedMatcher.hasSpecial ? data[...] : []
    var text = text
    text.withUTF8 { text in
      rawMatcher.split(text, includingSpecial: parsingSpecialTokens, except: data) { range, token in
        if let token {
          sink.ids.append(token)
        } else {
          while let first = left.first, first.upperBound <= range.lowerBound { left = left.dropFirst() }
          let own = left.prefix { $0.lowerBound < range.upperBound }.map {
            max($0.lowerBound - range.lowerBound, 0)..<min($0.upperBound, range.upperBound) - range.lowerBound
          }
          let segment = UnsafeBufferPointer(rebasing: text[range])
          encodeSegment(segment, startsText: range.lowerBound == 0, parsingSpecialTokens, except: own, &sink)
        }
      }
    }
    if !scratch.isLarge {
      scratchPool.withLock { if $0.count < Self.pooledScratches { $0.append(scratch) } }
    }
    return sink.ids
  }

  private func encodeSegment<Model: PieceModel>(
    _ segment: UnsafeBufferPointer<UInt8>, startsText: Bool, _ parsingSpecialTokens: Bool, except data: [Range<Int>],
    _ sink: inout IDSink<Model>
  ) {
    // Where the text's first character is matters to few.
    var start = startsText && preTokenizer.distinguishesStart ? segment.endOfCharacter(at: 0) : 0
    if !data.isEmpty || (start > 0 && !normalizer.steps.isEmpty) {
      var places = data.flatMap { [$0.lowerBound, $0.upperBound] }
      let normalized = normalizer.normalize(segment, startsText: startsText, moving: &places, start: &start)
      let moved = data.indices.map { places[2 * $0]..<places[2 * $0 + 1] }.filter { !$0.isEmpty }
      normalized.withUnsafeBufferPointer {
        encodeNormalized($0, start: start, parsingSpecialTokens, except: moved, &sink)
      }
    } else if let normalized = normalizer.normalize(segment, startsText: startsText) {
      normalized.withUnsafeBufferPointer { encodeNormalized($0, start: start, parsingSpecialTokens, &sink) }
    } else {
      encodeNormalized(segment, start: start, parsingSpecialTokens, &sink)
    }
  }

  private func encodeNormalized<Model: PieceModel>(
    _ segment: UnsafeBufferPointer<UInt8>, start: Int, _ parsingSpecialTokens: Bool,
    except data: [Range<Int>] = [], _ sink: inout IDSink<Model>
  ) {
    let workspace = sink.scratch.workspace
    if normalizedMatcher.isEmpty { return preTokenizer.split(segment, start: start, using: workspace, into: &sink) }
    normalizedMatcher.split(segment, includingSpecial: parsingSpecialTokens, except: data) { range, token in
      if let token {
        sink.ids.append(token)
      } else {
        let text = UnsafeBufferPointer(rebasing: segment[range])
        preTokenizer.split(text, start: start - range.lowerBound, using: workspace, into: &sink)
      }
    }
  }

  // MARK: Single tokens

  /// The bytes that a token stands for in a text, often no whole character; of a special token, its name. `nil` for an id
  /// that is not in the vocabulary.
  public func tokenBytes(_ id: Int32) -> [UInt8]? { bytes(of: id).map(Array.init) }

  func bytes(of id: Int32) -> ArraySlice<UInt8>? {
    guard kinds.indices.contains(Int(id)), kinds[Int(id)] != .absent else { return nil }
    return decoded[id]
  }

  /// Whether a token is special: not part of what a user writes. `decode` can skip it.
  public func isSpecial(_ id: Int32) -> Bool { kinds.indices.contains(Int(id)) && kinds[Int(id)] == .special }

  /// The id of a token by its text in the vocabulary: "<|im_end|>", "Ġthe", "▁the"; `nil` if there is none.
  public func id(of tokenText: String) -> Int32? { texts.id(of: Array(tokenText.utf8)) }

  /// A token's text in the vocabulary; `nil` for an id that is not in it.
  public func tokenText(_ id: Int32) -> String? {
    guard kinds.indices.contains(Int(id)), kinds[Int(id)] != .absent else { return nil }
    return String(decoding: texts[id], as: UTF8.self)
  }

  // MARK: Decoding

  /// The text of ids. Bytes that are not UTF-8 become U+FFFD; ids that are not in the vocabulary are ignored.
  public func decode(_ ids: some Sequence<Int32>, skippingSpecialTokens: Bool) -> String {
    var decoder = StreamDecoder(self, skippingSpecialTokens: skippingSpecialTokens)
    for id in ids { decoder.append(id) }
    return decoder.takeComplete() + decoder.finish()
  }
}

/// Encodes the pieces that a `PreTokenizer` gives, and collects their ids.
private struct IDSink<Model: PieceModel>: PieceSink {
  let model: Model
  let scratch: EncodingScratch
  let limit: Int
  let isCancelled: (() -> Bool)?
  var ids: [Int32]

  mutating func take(_ piece: UnsafeBufferPointer<UInt8>) {
    guard ids.count < limit, isCancelled?() != true else { return }
    model.encode(piece, scratch, into: &ids)
  }
}
