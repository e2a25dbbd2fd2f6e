import Tokenization
import Model
import TestSupport
import Testing

@testable import Serve

@Suite struct OutputTextTests {
  private let tokenizer: Tokenizer

  init() throws { tokenizer = try TinyModel(TinyShape(layers: 1)).tokenizer() }

  private func record(_ token: Int32) -> TokenRecord {
    TokenRecord(token: token, bytes: tokenizer.tokenBytes(token) ?? [], logprob: nil, top: [])
  }

  private func tokens(_ text: String) -> [Int32] { text.utf8.map(TinyTokenizer.token) }

  /// What is shown after each token, and at the end.
  private func run(
    _ tokens: [Int32], stops: [String] = [], includesStop: Bool = false, minimumTokens: Int = 0
  ) -> (pieces: [String], reported: [[Int32]], isStopped: Bool) {
    var output = OutputText(
      decoder: StreamDecoder(tokenizer, isContinuation: true), stops: stops, includesStop: includesStop,
      minimumTokens: minimumTokens)
    var (pieces, reported): ([String], [[Int32]]) = ([], [])
    for token in tokens where !output.isStopped {
      let shown = output.push(record(token))
      pieces.append(shown.text)
      reported.append(shown.tokens.map(\.token))
    }
    let rest = output.finish()
    pieces.append(rest.text)
    reported.append(rest.tokens.map(\.token))
    return (pieces, reported, output.isStopped)
  }

  /// Where the first stop string begins when the text is cut after each token, in bytes. As in vLLM, one that ends within the
  /// text of the first `minimumTokens` tokens does not count.
  private func expected(
    _ tokens: [Int32], stops: [String], minimumTokens: Int = 0
  ) -> (text: String, isStopped: Bool) {
    var first = StreamDecoder(tokenizer, isContinuation: true)
    let checked = tokens.prefix(minimumTokens).map { first.push($0) }.joined().utf8.count
    for count in 0...tokens.count {
      var decoder = StreamDecoder(tokenizer, isContinuation: true)
      var text = tokens.prefix(count).map { decoder.push($0) }.joined()
      if count == tokens.count { text += decoder.finish() }
      let bytes = Array(text.utf8)
      let starts = stops.compactMap { stop in
        bytes.indices.first { $0 + stop.utf8.count > checked && bytes[$0...].starts(with: Array(stop.utf8)) }
      }
      if let start = starts.min() { return (String(decoding: bytes[..<start], as: UTF8.self), true) }
      if count == tokens.count { return (text, false) }
    }
    return ("", false)
  }

  @Test func aStopStringCanBeShown() {
    #expect(run(tokens("aaab!"), stops: ["aab"], includesStop: true).pieces == ["", "", "a", "aab", ""])
    let both = run(tokens("xabc"), stops: ["abc", "ab"], includesStop: true)
    #expect(both.pieces.joined() == "xab" && both.isStopped && both.reported.joined().count == 3)
    #expect(run(tokens("xa"), stops: ["ab"], includesStop: true).pieces.joined() == "xa")
  }

  @Test func aStopStringCanComeTooEarly() {
    #expect(run(tokens("abab"), stops: ["ab"], minimumTokens: 2).pieces.joined() == "ab")
    // One that ends behind the first tokens counts, even if it begins among them.
    #expect(run(tokens("aabx"), stops: ["ab"], minimumTokens: 2).pieces.joined() == "a")
    #expect(run(tokens("aab"), stops: ["ab"], minimumTokens: 3).pieces.joined() == "aab")
  }

  @Test func knownCases() {
    #expect(run(tokens("aaab!"), stops: ["aab"]).pieces == ["", "", "a", "", ""])
    #expect(run(tokens("aaxb"), stops: ["aab"]).pieces == ["", "", "aax", "b", ""])
    #expect(run(tokens("stop"), stops: ["s"]).pieces == ["", ""])
    #expect(run(tokens("ab"), stops: ["abc"]).pieces == ["", "", "ab"])
    #expect(run(tokens("a\né"), stops: ["\n\n"]).pieces == ["a", "", "", "\né", ""])
    #expect(run(tokens("xé"), stops: ["é"]).pieces == ["x", "", "", ""])
    // Half a character at the end, and one that never gets well.
    #expect(run(Array(tokens("é").prefix(1))).pieces == ["", "\u{FFFD}"])
    #expect(run(Array(tokens("é").prefix(1)) + tokens("a")).pieces == ["", "\u{FFFD}a", ""])
  }

  @Test func aTokenIsReportedWithTheEndOfItsText() {
    let euro = tokens("€")
    #expect(run(euro + tokens("a")).reported == [[], [], euro, tokens("a"), []])
    #expect(run(tokens("ab"), stops: ["bc"]).reported == [tokens("a"), [], tokens("b")])
    // Tokens without text come with what is before them.
    #expect(run(tokens("a") + [0] + tokens("b")).reported == [tokens("a"), [0], tokens("b"), []])
    #expect(run(tokens("b") + [0], stops: ["bc"]).reported == [[], [], tokens("b") + [0]])
  }

  @Test func afterAStopOnlyTokensWithShownTextAreReported() throws {
    let the = try #require(tokenizer.id(of: "the"))
    let result = run(tokens("a") + [the] + tokens("n"), stops: ["en"])
    #expect(result.pieces.joined() == "ath" && result.isStopped)
    #expect(result.reported.flatMap { $0 } == tokens("a") + [the])
    #expect(run(tokens("aaab"), stops: ["aab"]).reported.flatMap { $0 } == tokens("a"))
  }

  @Test func anyTextIsShownWholeUpToItsStop() {
    var random = TinyRandom(seed: 8)
    let alphabet = ["a", "a", "aa", "aab", "b", "é", "\u{c3}", "€", "😀", "\n", "x"]
    let stops = ["aab", "aa", "ab", "é", "b\n", "a€", "😀😀", "aaaa", "\u{20AC}x", "xé"]
    var stopped = 0
    for _ in 0..<4000 {
      var sequence: [Int32] = []
      for _ in 0..<Int.random(in: 0...14, using: &random) {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: sequence.append(0)
        case 1: sequence.append(Int32.random(in: 257..<Int32(TinyTokenizer.count), using: &random))
        case 2: sequence.append(TinyTokenizer.token(UInt8.random(in: 0x80...0xFF, using: &random)))
        case 3: sequence.append(299)  // no token of the tokenizer's
        default: sequence += tokens(alphabet.randomElement(using: &random) ?? "")
        }
      }
      let chosen = (0..<Int.random(in: 0...3, using: &random)).compactMap { _ in stops.randomElement(using: &random) }
      let minimum = Bool.random(using: &random) ? 0 : Int.random(in: 1...12, using: &random)
      let result = run(sequence, stops: chosen, minimumTokens: minimum)
      let wanted = expected(sequence, stops: chosen, minimumTokens: minimum)
      #expect(Array(result.pieces.joined().utf8) == Array(wanted.text.utf8), "\(sequence), \(chosen), \(minimum)")
      #expect(result.isStopped == wanted.isStopped)
      let reported = result.reported.flatMap { $0 }
      if wanted.isStopped {
        stopped += 1
        #expect(Array(sequence.prefix(reported.count)) == reported)
      } else {
        #expect(reported == sequence)
      }
    }
    #expect(stopped > 500)
  }
}
