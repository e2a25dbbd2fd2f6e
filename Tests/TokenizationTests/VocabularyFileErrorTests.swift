import Formats
import Foundation
import TestSupport
import Testing

@testable import Tokenization

/// Files of vocabularies that are damaged or hostile: a clear error, never a crash, a hang or a wrong vocabulary.
@Suite struct VocabularyFileErrorTests {
  private func expectError(
    _ part: String, _ files: [String: [UInt8]], sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "vocabulary-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for (name, data) in files { try Data(data).write(to: folder.appending(path: name)) }
    let error = #expect(throws: ModelError.self, sourceLocation: sourceLocation) {
      try Tokenizer(.huggingFace(folder), name: "m")
    }
    #expect(
      error?.description.contains(part) == true, "\(String(describing: error))", sourceLocation: sourceLocation)
  }

  // MARK: SentencePiece

  private func varint(_ value: UInt64) -> [UInt8] {
    var value = value
    var bytes: [UInt8] = []
    while value >= 0x80 {
      bytes.append(UInt8(value & 0x7F) | 0x80)
      value >>= 7
    }
    return bytes + [UInt8(value)]
  }

  private func field(_ number: UInt64, _ bytes: [UInt8]) -> [UInt8] {
    varint(number << 3 | 2) + varint(UInt64(bytes.count)) + bytes
  }

  private func field(_ number: UInt64, integer: UInt64) -> [UInt8] { varint(number << 3) + varint(integer) }

  private func piece(_ text: String, _ score: Float = -1, type: UInt64 = 1) -> [UInt8] {
    let score = withUnsafeBytes(of: score.bitPattern.littleEndian) { [0x15] + Array($0) }
    return field(1, field(1, Array(text.utf8)) + score + field(3, integer: type))
  }

  private func model(_ pieces: [UInt8], trainer: [UInt8] = [], normalizer: [UInt8] = []) -> [String: [UInt8]] {
    ["tokenizer.model": piece("<unk>", type: 2) + pieces + field(2, trainer) + field(3, normalizer)]
  }

  @Test func refusesSentencePieceFiles() throws {
    let bpe = field(3, integer: 2)
    func bytes(_ byteCount: Int) -> [UInt8] {
      (0..<byteCount).flatMap { piece(String(decoding: sentencePieceText(of: UInt8($0)), as: UTF8.self), type: 6) }
    }
    try expectError("tokenizer.model: pieces: missing", ["tokenizer.model": []])
    try expectError(
      "tokenizer.model: field 1 at byte 0 has 18446744073709551615 bytes of 0",
      ["tokenizer.model": varint(1 << 3 | 2) + varint(.max)])
    try expectError("ends inside a number", ["tokenizer.model": [0x0A, 0xFF]])
    try expectError("a number of more than 64 bits", ["tokenizer.model": [0x08] + Array(repeating: 0xFF, count: 11)])
    try expectError("field 1 at byte 0 has the wire type 3", ["tokenizer.model": [0x0B]])
    try expectError("no protobuf field at byte 0", ["tokenizer.model": [0x00, 0x00]])
    try expectError("pieces[1]: ends inside a number", model(field(1, [0x0D, 0, 0])))
    try expectError("pieces[1]: is not UTF-8", model(field(1, field(1, [0xFF]))))
    try expectError("pieces[1]: has no text", model(field(1, [])))
    try expectError("pieces[1]: 'a' has the score nan", model(piece("a", .nan)))
    try expectError("pieces[1]: 'a' has the score inf", model(piece("a", .infinity)))
    try expectError("pieces[1]: has the unknown type 9", model(piece("a", type: 9)))
    try expectError("pieces[1]: has the unknown type 18446744073709551615", model(piece("a", type: .max)))
    try expectError("pieces[1]: 'a' is there twice", model(piece("a") + piece("a")))
    try expectError("pieces[1]: is a second unknown token", model(piece("a", type: 2)))
    try expectError("pieces: no unknown token", ["tokenizer.model": piece("a")])
    try expectError("pieces[1]: is a byte without byte_fallback", model(bytes(256)))
    try expectError(
      "trainer_spec.byte_fallback: '<0xFF>' is missing", model(bytes(255), trainer: field(35, integer: 1)))
    try expectError(
      "pieces[1]: 'a' is a byte, but no <0xNN>", model(piece("a", type: 6), trainer: field(35, integer: 1)))
    try expectError("trainer_spec.model_type: WORD is not supported", model([], trainer: field(3, integer: 3)))
    try expectError("trainer_spec.model_type: CHARACTER is not supported", model([], trainer: field(3, integer: 4)))
    try expectError("trainer_spec.model_type: 77 is not supported", model([], trainer: field(3, integer: 77)))
    try expectError("treat_whitespace_as_suffix: is not supported", model([], trainer: field(24, integer: 1)))
    try expectError("pieces[1]: is unused", model(piece("a", type: 5), trainer: bpe))
    try expectError(
      "pieces[1]: is longer than 1024 bytes", model(piece(String(repeating: "a", count: 1025))))
    try expectError(
      "pieces: token 1 is longer than 4096 bytes", model(piece(String(repeating: "a", count: 4097), type: 3)))
    try expectError(
      "denormalizer_spec: is not supported",
      ["tokenizer.model": piece("<unk>", type: 2) + field(5, field(2, [1, 2, 3, 4]))])
  }

  @Test func refusesCharsmaps() throws {
    func word(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    func expect(_ reason: String, _ charsmap: [UInt8]) throws {
      try expectError("precompiled_charsmap: \(reason)", model([], normalizer: field(2, charsmap)))
    }
    try expect("3 bytes are no charsmap", [0, 0, 0])
    try expect("its trie of 4294967295 bytes is not in its 8 bytes", word(.max) + word(0))
    try expect("its trie of 0 bytes", word(0) + word(0))
    try expect("its trie of 5 bytes", word(5) + word(0) + word(0))
    try expect("its replacements are not UTF-8", word(4) + word(0) + [0xFF, 0])
    try expect("has a replacement of 65 bytes", word(4) + word(0) + Array(repeating: 0x61, count: 65))
  }

  /// A trie of numbers drawn at random leads nowhere, or to a replacement; it is never left.
  @Test func survivesCharsmapsOfRandomNumbers() throws {
    var random = TinyRandom(seed: 31)
    let text = Array("Hello e\u{301} ﬁ ½ 日本 \u{0} \r\n".utf8)
    for _ in 0..<2000 {
      let units = (0..<Int.random(in: 1...300, using: &random)).map { _ -> UInt32 in
        let label = UInt32.random(in: 0...255, using: &random)
        return label | UInt32.random(in: 0...1, using: &random) << 8 | UInt32.random(in: 0...400, using: &random) << 10
      }
      let trie = units.flatMap { unit in withUnsafeBytes(of: unit.littleEndian) { Array($0) } }
      let length = withUnsafeBytes(of: UInt32(trie.count).littleEndian) { Array($0) }
      let charsmap = try PrecompiledCharsmap(length + trie + Array("é\u{0}fi\u{0}".utf8))
      text.withUnsafeBufferPointer { text in
        var offsets = OffsetMap([0, 3, text.count])
        let clusters = charsmap.rewriteClusters(text, &offsets)
        #expect(String(validating: clusters, as: UTF8.self) != nil)
        var normalizer = SentencePieceNormalizer()
        normalizer.charsmap = charsmap
        offsets = OffsetMap([0, 3, text.count])
        let normalized = normalizer.normalize(text, startsText: true, &offsets)
        #expect(String(validating: normalized, as: UTF8.self) != nil)
        #expect(offsets.offsets == offsets.offsets.sorted() && offsets.offsets.allSatisfy { $0 <= normalized.count })
      }
    }
  }

  private func charsmap(_ units: [Int: UInt32]) throws -> PrecompiledCharsmap {
    let trie = (0..<1024).flatMap { index in withUnsafeBytes(of: (units[index] ?? 0).littleEndian) { Array($0) } }
    return try PrecompiledCharsmap([0, 16, 0, 0] + trie + [0])
  }

  /// The unit of a byte that follows from the node `base` and leads to the node `next`, where a string ends.
  private func unit(_ byte: UInt8, from base: UInt32, to next: UInt32) -> (index: Int, value: UInt32) {
    let index = base ^ UInt32(byte)
    return (Int(index), (index ^ next) << 10 | 1 << 8 | UInt32(byte))
  }

  @Test func stringsOfCharsmapsEndWithCharacters() throws {
    let first = unit(0xC3, from: 256, to: 512)
    let half = try charsmap([0: 256 << 10, first.index: first.value])
    Array("é".utf8).withUnsafeBufferPointer { text in
      let match = half.longestMatch(in: text, from: 0)
      #expect(match?.end == nil)
    }
    let second = unit(0xA9, from: 512, to: 768)
    let whole = try charsmap([0: 256 << 10, first.index: first.value & ~(1 << 8), second.index: second.value])
    Array("éa".utf8).withUnsafeBufferPointer { text in
      let match = whole.longestMatch(in: text, from: 0)
      #expect(match?.end == 2)
    }
  }

  /// Else every character of a text would be the beginning of a search to the text's end.
  @Test func circlesOfCharsmapsEnd() throws {
    let again = unit(0x61, from: 256, to: 256)
    let circle = try charsmap([0: 256 << 10, again.index: again.value])
    [UInt8](repeating: 0x61, count: 1000).withUnsafeBufferPointer { text in
      let match = circle.longestMatch(in: text, from: 0)
      #expect(match?.end == 256)
    }
  }

  /// Each of many added tokens once looked at all before it.
  @Test func readsManyAddedTokens() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let count = 100_000
    let tokens = (1...count).map { #""\#($0)":{"content":"<\#($0)>"}"# }.joined(separator: ",")
    _ = try folder.write("tokenizer.model", try #require(model([])["tokenizer.model"]))
    _ = try folder.write("tokenizer_config.json", #"{"added_tokens_decoder":{\#(tokens)}}"#)
    let tokenizer = try Tokenizer(.huggingFace(folder.url), name: "m")
    #expect(tokenizer.vocabularySize == count + 1 && tokenizer.id(of: "<77777>") == 77777)
  }

  @Test func unigramTokensTogetherAreLimited() {
    var total = 32 << 20 - 1
    #expect(UnigramModel.problem([1], total: &total) == nil)
    #expect(UnigramModel.problem([1], total: &total) == "makes the tokens longer than 33554432 bytes together")
  }

  @Test func documentsHaveLimits() {
    let text = Array(#"[[0],[1]]"#.utf8)
    text.withUnsafeBufferPointer { text in
      #expect(throws: Never.self) { try JSONTree(text, limits: JSONLimits(values: 14)) }
      #expect(throws: JSONSyntaxError.self) { try JSONTree(text, limits: JSONLimits(values: 13)) }
    }
  }

  // MARK: tiktoken, tekken.json, Unigram

  @Test func refusesTiktokenFiles() throws {
    let all = (UInt8.min...UInt8.max).map { "\(Data([$0]).base64EncodedString()) \($0)\n" }
    let config = Array(#"{"added_tokens_decoder":{"256":{"content":"<|x|>","special":true}}}"#.utf8)
    func expect(_ reason: String, _ text: String, config: [UInt8]? = config) throws {
      var files = ["tokenizer.model": Array(text.utf8)]
      files["tokenizer_config.json"] = config
      try expectError("tokenizer.model: \(reason)", files)
    }
    try expect("256 tokens instead of Llama 3's 128000", all.joined(), config: nil)
    try expect("no token of the byte 255", all.dropLast().joined())
    try expect("line 2 is no token of rank 1", all[0] + all[2])
    try expect("line 257 is no token of rank 256", all.joined() + "YWI= -1\n")
    try expect("line 257 is no token of rank 256", all.joined() + "YWI= 256 9\n")
    try expect("line 257: 'YW' is no Base64", all.joined() + "YW 256\n")
    try expect("token of rank 65 is there twice", all.joined() + "QQ== 256\n")
    try expect("'<|x|>' has the id 256 of another token", all.joined() + "YWI= 256\n")
    let long = Data(repeating: 97, count: 50_000).base64EncodedString()
    try expect("the tokens are too long", all.joined() + "\(long) 256\n")
  }

  @Test func refusesTekkenFiles() throws {
    func document(
      config: String = #""pattern":"a","default_vocab_size":257,"default_num_special_tokens":1"#,
      vocabulary: [String]? = nil, rest: String = #","special_tokens":[]"#
    ) -> [String: [UInt8]] {
      let bytes = (UInt8.min...UInt8.max).map {
        #"{"rank":\#($0),"token_bytes":"\#(Data([$0]).base64EncodedString())","token_str":null}"#
      }
      return [
        "tekken.json": Array(
          "{\"config\":{\(config)},\"vocab\":[\((vocabulary ?? bytes).joined(separator: ","))]\(rest)}".utf8)
      ]
    }
    func expect(_ reason: String, _ files: [String: [UInt8]]) throws {
      try expectError("tekken.json: \(reason)", files)
    }
    try expect("config: missing", ["tekken.json": Array("{}".utf8)])
    try expect("config.default_vocab_size: missing", document(config: ""))
    try expect("config.default_vocab_size: missing", document(config: #""default_vocab_size":-5"#))
    try expect(
      "config: a vocabulary of 5, of which 5",
      document(config: #""default_vocab_size":5,"default_num_special_tokens":5"#))
    try expect(
      "config: a vocabulary of 2000000000",
      document(config: #""default_vocab_size":2000000000,"default_num_special_tokens":5"#))
    try expect("vocab: less than 256 tokens", document(vocabulary: []))
    try expect(
      "vocab[1]: without rank 1",
      document(vocabulary: Array(repeating: #"{"rank":0,"token_bytes":"AA=="}"#, count: 256)))
    try expect(
      "config.pattern: missing", document(config: #""default_vocab_size":257,"default_num_special_tokens":1"#))
    try expect(
      "config.pattern: the escape '\\K' is not supported",
      document(config: #""pattern":"\\K","default_vocab_size":257,"default_num_special_tokens":1"#))
    try expect("special_tokens: missing in version ''", document(rest: ""))
    try expect("special_tokens[0]: without rank", document(rest: #","special_tokens":[{"rank":0}]"#))
    try expect(
      "special_tokens[0]: the rank 1 is not free", document(rest: #","special_tokens":[{"rank":1,"token_str":"a"}]"#))
  }

  @Test(arguments: [
    (#""vocab":{"a":0},"unk_id":0"#, "model.vocab: missing"),
    (#""vocab":[["a",0]]"#, "model.unk_id: missing"),
    (#""vocab":[["a",0]],"unk_id":1"#, "model.unk_id: missing, or not in the vocabulary"),
    (#""vocab":[["a",0]],"unk_id":-1"#, "model.unk_id: missing, or not in the vocabulary"),
    (#""vocab":[["a",0],["b"]],"unk_id":0"#, "model.vocab[1]: no [token, score]"),
    (#""vocab":[["a",0],"b"],"unk_id":0"#, "model.vocab[1]: no [token, score]"),
    (#""vocab":[["a",0],["b","-1"]],"unk_id":0"#, "model.vocab[1]: no [token, score]"),
  ]) func refusesUnigramModels(model: String, reason: String) throws {
    let json = #"{"model":{"type":"Unigram",\#(model)},"decoder":{"type":"Metaspace"}}"#
    try expectError("tokenizer.json: \(reason)", ["tokenizer.json": Array(json.utf8)])
  }

  /// Bytes of each fixture changed at random: refused or taken, never a crash.
  @Test(arguments: VocabularyKindTests.kinds) func survivesDamage(kind: String) throws {
    let folder = TokenizerFixture.url("vocabularies/\(kind)")
    let name = try #require(
      ["tokenizer.json", "tekken.json", "tokenizer.model"].first {
        FileManager.default.fileExists(atPath: folder.appending(path: $0).path)
      })
    let original = Array(try Data(contentsOf: folder.appending(path: name)))
    let copy = FileManager.default.temporaryDirectory.appending(path: "vocabulary-\(UUID().uuidString)")
    try FileManager.default.copyItem(at: folder, to: copy)
    defer { try? FileManager.default.removeItem(at: copy) }
    var random = TinyRandom(seed: 33)
    var refused = 0
    for round in 0..<150 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if round % 5 == 0 { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random)) }
      try Data(bytes).write(to: copy.appending(path: name))
      do {
        let tokenizer = try Tokenizer(.huggingFace(copy), name: "m")
        let ids = tokenizer.encode("Hello <s> the 123 é\u{0}\u{3000}", parsingSpecialTokens: true)
        #expect(ids.allSatisfy { tokenizer.tokenBytes($0) != nil })
      } catch is ModelError {
        refused += 1
      }
    }
    #expect(refused > 10)
  }
}
