import Formats
import Foundation
import TestSupport
import Testing

@testable import Tokenization

/// The pre-tokenizers that GGUF files name, against the pieces that llama.cpp makes of the same texts. For a few texts its
/// patterns, which have no properties of letters' case and of marks, differ from the models' own. There Python's module
/// `regex` gave the pieces, with the models' patterns.
@Suite struct SplitPatternTests {
  private struct Fixture: Decodable {
    let texts: [String]
    let splits: [Splits]
    let own: [OwnSplit]
  }

  private struct OwnSplit: Decodable {
    let names: [String]
    /// The index of the text.
    let text: Int
    let lengths: [Int]
  }

  private struct Splits: Decodable {
    let names: [String]
    /// The lengths of the pieces of each text, in bytes.
    let lengths: [[Int]]
  }

  private struct Lengths: PieceSink {
    var lengths: [Int] = []
    mutating func take(_ piece: UnsafeBufferPointer<UInt8>) { lengths.append(piece.count) }
  }

  private func lengths(_ name: String, _ text: String) throws -> [Int] {
    let split = try #require(SplitPatterns(named: name), "\(name)")
    let preTokenizer = try TokenizerDefinition.preTokenizer(split) { ModelError($0, reason: $1) }
    var sink = Lengths()
    var text = text
    text.withUTF8 { preTokenizer.split($0, start: 0, using: SplitRegex.Workspace(), into: &sink) }
    return sink.lengths
  }

  @Test func piecesEqualTheReference() throws {
    let fixture = try TokenizerFixture.decode(Fixture.self, "pre-tokenizers.json")
    #expect(fixture.splits.flatMap(\.names).count == 79)
    for splits in fixture.splits {
      for name in splits.names {
        for (index, text) in fixture.texts.enumerated() {
          let own = fixture.own.first { $0.text == index && $0.names.contains(name) }
          #expect(try lengths(name, text) == own?.lengths ?? splits.lengths[index], "\(name): \(text.debugDescription)")
        }
      }
    }
  }

  /// Matches of a long text are searched a part at a time. They are those of the whole text, which PCRE2 is given here by
  /// looking at every place from the beginning of the text.
  @Test(
    arguments: [
      SplitPatterns.gpt2, SplitPatterns.llama3, "a*b|a", "(?:a|ab)*c", #"\p{L}+(?= )|.$"#, "x*", "$", "^.",
      "(?<=a )b+|b",
      "(?!a)b|a+$", "a(?!b)|é+", "(?<!a)a{3}", "[^b]*b|.", #"\s+(?!\S)|\s+"#, #"a.{1500}b|c"#, "(?=.*c)a|b+",
    ])
  func partsChangeNoMatch(pattern: String) throws {
    let regex = try SplitRegex(pattern)
    let workspace = SplitRegex.Workspace()
    var random = TinyRandom(seed: 7)
    for length in [1000, 1023, 1024, 1025, 1030, 2100, 6000] {
      for alphabet in [["a", "b"], ["a", "a", "a", "a", "b", " ", "é", "\n"], ["a", "c", "é", "x", " ", " "], ["a"]] {
        var text = (0..<length).map { _ in alphabet.randomElement(using: &random) ?? "" }.joined()
        text.withUTF8 { text in
          var (parts, whole): ([Range<Int>], [Range<Int>]) = ([], [])
          regex.forEachMatch(in: text, using: workspace, looksAgain: 1 << 20) { parts.append($0) }
          regex.forEachMatch(in: text, using: workspace, window: .max) { whole.append($0) }
          #expect(parts == whole, "\(length) of \(alphabet)")
        }
      }
    }
  }

  /// A pattern that looks through the rest of the text for each match takes no quadratic time.
  @Test(arguments: ["a*b|a", "(?=a*b)a|a", "a+c|a"]) func searchesThatLookFarAheadEnd(pattern: String) throws {
    let regex = try SplitRegex(pattern)
    var text = String(repeating: "a", count: 4 << 20)
    text.withUTF8 { text in
      var count = 0
      regex.forEachMatch(in: text, using: SplitRegex.Workspace()) { _ in count += 1 }
      #expect(count > 10 && count < 1000, "\(count)")
    }
  }

  /// What is linear in one pattern can be quadratic in another: all take a long text of one kind.
  @Test func longTextsTakeLinearTime() throws {
    let fixture = try TokenizerFixture.decode(Fixture.self, "pre-tokenizers.json")
    for name in fixture.splits.compactMap(\.names.first) {
      for part in ["a", "A", " ", "7", "7a", "\n", "!", "中", "a ", " \n", "e\u{301}", "'"] {
        let text = String(repeating: part, count: 60_000 / part.utf8.count) + "b"
        let start = ContinuousClock.now
        #expect(try lengths(name, text).reduce(0, +) == text.utf8.count)
        #expect(ContinuousClock.now - start < .seconds(10), "\(name): \(part.debugDescription)")
      }
    }
  }

  @Test func unknownNamesAreRefused() {
    #expect(SplitPatterns(named: "elvish") == nil)
    #expect(SplitPatterns(named: "whitespace") == nil)
  }
}
