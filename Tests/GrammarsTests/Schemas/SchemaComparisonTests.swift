import Formats
import Foundation
import Grammars
import Testing

/// Answers scripts/check_schemas.py, which compares with other libraries: reads a file of cases, of which each line has a
/// schema and for each document the texts of which one has to be in the grammar, and writes which documents are.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["SCHEMA_CASES"] != nil))
struct SchemaComparisonTests {
  @Test func answers() throws {
    let path = try #require(ProcessInfo.processInfo.environment["SCHEMA_CASES"])
    var answers = ""
    for line in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n") {
      let object = try #require(
        try JSONValue.parse(line.utf8, subject: path, limits: JSONLimits(allowsAnyNumber: true)).object)
      let answer: JSONValue
      do {
        let grammar = try JSONSchemaCompiler.grammar(for: object["schema"]!)
        answer = .array(
          object["documents"]!.array!.map { texts in
            .bool(texts.array!.contains { SimpleRecognizer($0.string!).matches(grammar) })
          })
      } catch { answer = .string(error.description) }
      answers += String(decoding: answer.encoded, as: UTF8.self) + "\n"
    }
    try answers.write(toFile: path + ".answers", atomically: true, encoding: .utf8)
  }
}
