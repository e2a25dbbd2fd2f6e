@testable import Grammars

/// Vocabularies of tokens like those of byte-level tokenizers.
enum TestVocabulary {
  /// All bytes, characters of one to four bytes and parts of them, words, long tokens, and tokens that end or begin strings. The last
  /// token ends a text.
  static let small: TokenVocabulary = {
    var tokens: [[UInt8]] = (0...255).map { [UInt8($0)] }
    tokens += [
      "a", "é", "日", "😀", "日本", "éé", "ab", "name", " the", "The", "12", "123", "-1", "0.5", "e", "Zz", "aZ", "dead",
      "Beef", "Hello",
    ].map {
      Array($0.utf8)
    }
    tokens += [
      "\":", "\",", "\"}", "{\"", "[\"", "\": \"", "x\"", "\\n", "\\u00", "\\\"", "a\\", "\n", "\n  ", "},", "]}", "  ",
    ]
    .map { Array($0.utf8) }
    tokens += [
      [0xE6, 0x97], [0xA5], [0xA5, 0xE6, 0x9C], [0x61, 0xC3], [0xF0, 0x9F], [0x98, 0x80], [0xC3, 0xA9, 0xC3],
      [0xFF, 0x61],
    ]
    for length in [2, 3, 5, 8, 15, 16, 17, 18, 30, 40] {
      tokens.append([UInt8](repeating: 0x61, count: length))
      tokens.append(Array(String(repeating: "é", count: length).utf8))
      tokens.append([UInt8](repeating: 0x20, count: length))
    }
    tokens.append([])
    return TokenVocabulary(tokens: tokens, endTokens: [tokens.count - 1])
  }()

  /// A vocabulary of a size that models have, the same in every run. No two tokens are equal, as in byte-level tokenizers. About
  /// two thirds are words, the others bytes, numbers, white space, runs of punctuation as JSON has them, other scripts' characters and
  /// parts of them. The last tokens are special; the very last one ends a text.
  static func large(_ size: Int) -> TokenVocabulary {
    var tokens: [[UInt8]] = []
    var known: Set<[UInt8]> = []
    let end = size - 200
    func add(_ token: [UInt8]) {
      if tokens.count < end, known.insert(token).inserted { tokens.append(token) }
    }
    func add(_ token: String) { add(Array(token.utf8)) }
    for byte in UInt8.min...UInt8.max { add([byte]) }
    for number in 0..<1_000 {
      add("\(number)")
      add(String("\(1_000 + number)".suffix(3)))
      add(String("\(100 + number % 100)".suffix(2)))
    }
    for count in 1...80 {
      for white in [" ", "\n", "\t"] { add(String(repeating: white, count: count)) }
      add("\n" + String(repeating: " ", count: count))
      add("\r\n" + String(repeating: " ", count: count))
    }
    let marks = ["{", "}", "[", "]", "\"", ":", ",", " ", "\n", "\\", "-", ".", "0", "/", "(", ")", "'", "_"]
    for first in marks {
      for second in marks {
        add(first + second)
        for third in marks { add(first + second + third) }
      }
    }
    for escape in [
      "\\n", "\\t", "\\\"", "\\\\", "\\u", "\\u00", "\\u00e9", "\\ud83d", "\\n\\n", "\\/", "\":\"", "\",\"", "true",
      "null",
    ] {
      add(escape)
    }
    // Characters, two of them, and their first and last bytes.
    for range: ClosedRange<UInt32> in [
      0xA0...0x2FF, 0x370...0x5FF, 0x3040...0x30FF, 0x4E00...0x5DFF, 0xAC00...0xB3FF, 0x1F300...0x1F64F,
    ] {
      for value in range {
        guard let scalar = Unicode.Scalar(value) else { continue }
        let bytes = Array(String(scalar).utf8)
        add(bytes)
        for count in 1..<bytes.count where value % 4 == 0 {
          add(Array(bytes.prefix(count)))
          add(Array(bytes.suffix(count)))
        }
        if value % 3 == 0 { add(bytes + [0x20]) }
      }
    }
    let syllables = [
      "a", "ba", "cor", "de", "en", "fi", "gra", "ho", "in", "ju", "ka", "lo", "mi", "ne", "or", "pre", "qu", "re",
      "st", "ta", "un", "ver", "wi", "ex", "y", "zo", "ér", "ñ",
    ]
    let closings = ["", "", "", "s", "ing", "\"", "\":", "\",", ".", ",", "_", "("]
    var random = SeededGenerator(state: 3)
    while tokens.count < end {
      var word = ["", " ", " ", "\"", "_"].randomElement(using: &random)!
      for part in 0..<Int.random(in: 1...5, using: &random) {
        let syllable = syllables.randomElement(using: &random)!
        word += part == 0 && Bool.random(using: &random) ? syllable.uppercased() : syllable
      }
      add(word + closings.randomElement(using: &random)!)
    }
    tokens += [[UInt8]](repeating: [], count: size - tokens.count)
    return TokenVocabulary(tokens: tokens, endTokens: [size - 1])
  }
}

/// Steps of a text, in each of which a mask is held to accepting tokens one at a time.
struct MaskCheck {
  private let vocabulary: TokenVocabulary
  private var matcher: GrammarMatcher
  private var words: [UInt32]

  /// - Parameter compiled: the grammar of the text
  init(_ compiled: CompiledGrammar) throws {
    vocabulary = compiled.vocabulary
    matcher = try GrammarMatcher(compiled)
    words = [UInt32](repeating: 0, count: vocabulary.maskWords)
  }

  /// The text so far.
  var text: String { String(decoding: matcher.bytes, as: UTF8.self) }

  /// Computes the mask of the tokens that may come next.
  mutating func computeMask() throws {
    var failure: GrammarError?
    words.withUnsafeMutableBufferPointer { words in
      do throws(GrammarError) { try matcher.computeMask(into: words) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Whether a token is in the mask.
  func allows(_ token: Int) -> Bool { words[token >> 5] >> UInt32(token & 31) & 1 == 1 }

  /// Those of some tokens for which the mask and accepting the token differ.
  func differences(_ tokens: some Sequence<Int>) throws -> [Int] {
    var result: [Int] = []
    for token in tokens {
      var copy = matcher
      if try copy.accept(token: token) != allows(token) { result.append(token) }
    }
    return result
  }

  /// Accepts a token of the mask that does not end the text; false if there is none.
  mutating func advance(_ random: inout SeededGenerator) throws -> Bool {
    let allowed = vocabulary.tokens.indices.filter { allows($0) && !vocabulary.tokens[$0].isEmpty }
    guard let token = allowed.randomElement(using: &random) else { return false }
    return try matcher.accept(token: token)
  }

  /// Accepts a token.
  mutating func accept(_ token: Int) throws -> Bool { try matcher.accept(token: token) }
}
