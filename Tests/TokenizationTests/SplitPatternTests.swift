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
    text.withUTF8 { preTokenizer.split($0, startsText: true, using: SplitRegex.Workspace(), into: &sink) }
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
