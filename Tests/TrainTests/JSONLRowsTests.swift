import Tokenization
import Formats
import Foundation
import Model
import TestSupport
import Testing

@testable import Train

@Suite struct JSONLRowsTests {
  /// Writes as Llama 3 does, with the tiny model's end token.
  private static let template = """
    {% for m in messages %}<{{ m.role }}>{{ m.content }}<|end|>
    {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}
    """

  private func read(_ text: String, method: Hyperparameters.Method? = nil) throws -> [TrainingExample] {
    let model = try TinyModel()
    let file = model.root.appending(path: "rows.jsonl")
    try Data(text.utf8).write(to: file)
    let tokenizer = try model.tokenizer()
    let chat = Result { () throws(ModelError) in try ChatFormat(tokenizer, template: Self.template, name: "tiny") }
    return try JSONLRows(
      file: file, tokenizer: tokenizer, endToken: TinyTokenizer.endToken, chat: chat, method: method
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
    let error = #expect(throws: DataProblems.self) { try read("{\"text\":\"a\"}\n" + line) }
    #expect(error?.description.contains("line 2") == true)
  }

  private func learnt(_ row: TrainingRow) throws -> String {
    let tokenizer = try TinyModel().tokenizer()
    let labels = row.labels.map { $0 == TrainingRow.ignored ? TinyTokenizer.token(UInt8(ascii: "_")) : $0 }
    return tokenizer.decode(labels, skippingSpecialTokens: false)
  }

  @Test func chatsAreLearntWhereTheAssistantSpeaks() throws {
    let examples = try read(
      """
      {"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hi"},{"role":"user","content":"x"},\
      {"role":"assistant","content":"hi<|end|>yo"}]}
      {"messages":[{"role":"assistant","content":"A","weight":0},{"role":"assistant","content":"B","weight":1}]}
      {"messages":[{"role":"assistant","content":"A","weight":0}]}
      """)
    guard case .row(let first) = examples[0], case .row(let second) = examples[1], case .row(let third) = examples[2]
    else {
      Issue.record("other forms")
      return
    }
    // What the user says alike is not learnt, nor the roles, nor the line break behind the end of a turn.
    #expect(try learnt(first).replacing("_", with: "") == "hi<|end|>hi<|end|>yo<|end|>")
    #expect(try learnt(first).hasSuffix("<|end|>_"))
    #expect(try learnt(second).replacing("_", with: "") == "B<|end|>")
    #expect(third.lossCount == 0)
    #expect(first.tokens.count == first.labels.count)
  }

  @Test func preferences() throws {
    let line = """
      {"input":{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"old"}]},\
      "preferred_output":[{"role":"assistant","content":"good"}],\
      "non_preferred_output":[{"role":"assistant","content":"bad"}]}
      """
    guard case .pair(let chosen, let rejected) = try read(line, method: .dpo)[0] else {
      Issue.record("no pair")
      return
    }
    #expect(try learnt(chosen).replacing("_", with: "") == "good<|end|>")
    #expect(try learnt(rejected).replacing("_", with: "") == "bad<|end|>")
  }

  @Test func everyProblemIsNamed() throws {
    let lines = [
      ("{\"messages\":[]}", "missing_messages_list"), ("{}", "missing_messages_list"), ("[1]", "data_type"),
      ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "example_missing_assistant_message"),
      ("{\"messages\":[{\"content\":\"a\"}]}", "message_missing_key"),
      ("{\"messages\":[{\"role\":\"assistant\"}]}", "message_missing_key"),
      ("{\"messages\":[{\"role\":\"assistant\",\"content\":\"\"}]}", "missing_content"),
      ("{\"messages\":[{\"role\":\"robot\",\"content\":\"a\"}]}", "unrecognized_role"),
      ("{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"x\":1}]}", "message_unrecognized_key"),
      ("{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"weight\":2}]}", "invalid_weight"),
      ("{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"weight\":1}]}", "invalid_weight"),
      ("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}", "wrong_method"),
      ("{\"tokens\":[5000000]}", "invalid_value"), ("{", "invalid_json"), ("{\"text\":\"fine\"}", ""),
    ]
    let error = #expect(throws: DataProblems.self) {
      try read(lines.map { $0.0 }.joined(separator: "\n"), method: .supervised)
    }
    for (index, line) in lines.enumerated() {
      let found = error?.problems.filter { $0.line == index + 1 }.map(\.name) ?? []
      #expect(line.1.isEmpty ? found.isEmpty : found.contains(line.1), "\(line.0)")
    }
  }
}
