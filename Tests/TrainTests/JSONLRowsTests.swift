import Foundation
import Model
import TestSupport
import Testing

@testable import Train

@Suite struct JSONLRowsTests {
  private func read(_ text: String, fallback: JSONLRows.Fallback? = nil) throws -> [TrainingExample] {
    let model = try TinyModel()
    let file = model.root.appending(path: "rows.jsonl")
    try Data(text.utf8).write(to: file)
    return try JSONLRows(
      file: file, tokenizer: try model.tokenizer(), endToken: TinyTokenizer.endToken, fallback: fallback
    ).examples()
  }

  private func ids(_ text: String) -> [Int32] { text.utf8.map { TinyTokenizer.token($0) } }

  @Test func everyForm() throws {
    let end = TinyTokenizer.endToken
    let examples = try read(
      """
      {"tokens":[1,2,3],"labels":[-100,2,3]}

      {"tokens":[4,5]}
      {"text":"xyz"}
      {"prompt":"x","completion":"y<|end|>"}
      {"prompt":"x","chosen":"y","rejected":"z"}
      """)
    #expect(examples.count == 5)
    #expect(examples[0] == .row(TrainingRow(tokens: [1, 2, 3], labels: [-100, 2, 3])))
    #expect(examples[1] == .row(TrainingRow(tokens: [4, 5], labels: [4, 5])))
    #expect(examples[2] == .row(TrainingRow(tokens: ids("xyz") + [end], labels: ids("xyz") + [end])))
    guard case .row(let row) = examples[3], case .pair(let chosen, let rejected) = examples[4] else {
      Issue.record("other forms")
      return
    }
    // A special token that the data merely spells is text.
    #expect(row.tokens.count { $0 == end } == 1 && row.labels.first == -100 && row.labels[1] == ids("y")[0])
    #expect(chosen == TrainingRow(tokens: ids("xy") + [end], labels: [-100] + ids("y") + [end]))
    #expect(rejected.tokens == ids("xz") + [end])
  }

  @Test(arguments: [
    "{", "[]", "{\"text\":3}", "{\"tokens\":[1.5]}", "{\"tokens\":[99999999999]}", "{\"messages\":[]}",
    "{\"prompt\":\"a\",\"completion\":null}", "{\"tokens\":[1],\"labels\":\"a\"}",
  ])
  func refusedWithTheLine(line: String) throws {
    let error = #expect(throws: ModelError.self) { try read("{\"text\":\"a\"}\n" + line) }
    #expect(error?.description.contains("line 2") == true)
  }

  @Test func otherLinesGoToTheFallback() throws {
    var seen: [Int] = []
    let examples = try read("{\"text\":\"a\"}\n{\"messages\":[]}") { object, number in
      seen.append(number)
      return .row(TrainingRow(tokens: [7, 8], labels: [7, 8]))
    }
    #expect(seen == [2] && examples.count == 2)
  }
}
