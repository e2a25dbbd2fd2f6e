import Formats
import Foundation
import Testing

@testable import Tokenization

/// Compares whole vocabularies with other libraries: each line of the file that scripts/check_vocabularies.py writes has a
/// vocabulary's path, texts, and what the library that the vocabulary belongs to made of them, or why it is refused.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["VOCABULARY_CASES"] != nil))
struct VocabularyComparisonTests {
  private struct Vocabulary: Decodable {
    let name: String
    let path: String
    let refused: String?
    let special: Bool
    let texts: [String]
    let ids: [[Int32]]
    /// The texts of the ids; `nil` for those that are not compared.
    let decoded: [String?]
  }

  @Test func idsEqualThoseOfTheLibraries() throws {
    let path = try #require(ProcessInfo.processInfo.environment["VOCABULARY_CASES"])
    var report = ""
    for line in try Data(contentsOf: URL(filePath: path)).split(separator: UInt8(ascii: "\n")) {
      let vocabulary = try JSONDecoder().decode(Vocabulary.self, from: line)
      do {
        let source = try openTokenizer(at: URL(filePath: vocabulary.path))
        let tokenizer = try Tokenizer(source, name: vocabulary.name)
        #expect(vocabulary.refused == nil, "\(vocabulary.name)")
        report += compare(vocabulary, tokenizer) + "\n"
      } catch let error as ModelError {
        let isExpected = vocabulary.refused.map { error.description.contains($0) } ?? false
        #expect(isExpected, "\(vocabulary.name): \(error)")
        report += "\(vocabulary.name): refused: \(error)\n"
      }
    }
    try report.write(toFile: path + ".report", atomically: true, encoding: .utf8)
  }

  private func compare(_ vocabulary: Vocabulary, _ tokenizer: Tokenizer) -> String {
    var differences: [String] = []
    var bytes = 0
    let clock = ContinuousClock()
    var time = Duration.zero
    for (index, text) in vocabulary.texts.enumerated() {
      let start = clock.now
      let ids = tokenizer.encode(text, parsingSpecialTokens: vocabulary.special, addingBOS: false)
      time += clock.now - start
      bytes += text.utf8.count
      if ids != vocabulary.ids[index] {
        differences.append("\(text.debugDescription): \(ids) instead of \(vocabulary.ids[index])")
      } else if let expected = vocabulary.decoded[index] {
        let decoded = tokenizer.decode(ids, skippingSpecialTokens: false)
        if !decoded.utf8.elementsEqual(expected.utf8) {
          differences.append("\(ids): \(decoded.debugDescription) instead of \(expected.debugDescription)")
        }
      }
    }
    #expect(differences.isEmpty, "\(vocabulary.name): \(differences.count): \(differences.prefix(3))")
    return
      "\(vocabulary.name): \(differences.count) of \(vocabulary.texts.count) texts differ; \(bytes) bytes in \(time)"
  }
}
