import Tokenization
import Formats
import Foundation
import Model
import TestSupport
import Testing

@testable import Train

/// What a training file is, and whose rows are in it.
@Suite struct TrainingFileTests {
  /// Roles and contents, each turn with an end.
  private static let template = """
    {% for m in messages %}{{ m.role }}:{{ m.content }}<|end|>
    {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}
    """

  private func read(_ bytes: [UInt8], method: Hyperparameters.Method? = nil) throws -> JSONLRows.Reading {
    let model = try TinyModel()
    let file = model.root.appending(path: "rows.jsonl")
    try Data(bytes).write(to: file)
    let tokenizer = try model.tokenizer()
    let chat = Result { () throws(ModelError) in try ChatFormat(tokenizer, template: Self.template, name: "tiny") }
    return try JSONLRows(
      file: file, tokenizer: tokenizer, endToken: TinyTokenizer.endToken, chat: chat, method: method
    ).read()
  }

  private func read(_ text: String, method: Hyperparameters.Method? = nil) throws -> JSONLRows.Reading {
    try read(Array(text.utf8), method: method)
  }

  private static func utf16(_ text: String, littleEndian: Bool) -> [UInt8] {
    text.utf16.flatMap { unit in
      let bytes = [UInt8(unit & 0xFF), UInt8(unit >> 8)]
      return littleEndian ? bytes : bytes.reversed()
    }
  }

  // MARK: what the file is

  private static let line = #"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}"#

  /// Files that are no JSONL, with words of what is said of them: what it is, and how to convert it.
  private static let others: [(name: String, bytes: [UInt8], words: [String])] = [
    ("empty", [], ["empty"]),
    ("blank", Array("\n \r\n\t\n".utf8), ["empty"]),
    ("mark alone", [0xEF, 0xBB, 0xBF], ["empty"]),
    ("UTF-16, little endian", [0xFF, 0xFE] + utf16(line, littleEndian: true), ["UTF-16", "iconv"]),
    ("UTF-16, big endian", [0xFE, 0xFF] + utf16(line, littleEndian: false), ["UTF-16", "iconv"]),
    ("UTF-16 without a mark", utf16(line, littleEndian: true), ["UTF-16", "iconv"]),
    ("array", Array("[\(line),\(line)]".utf8), ["JSON array", "jq"]),
    ("array over lines", Array("[\n\(line),\n\(line)\n]\n".utf8), ["JSON array", "jq"]),
    ("array behind blank lines", Array("\n\n  [\(line)]".utf8), ["JSON array", "jq"]),
    ("array behind a mark", [0xEF, 0xBB, 0xBF] + Array("[\(line)]".utf8), ["JSON array", "jq"]),
    ("pretty-printed", Array("{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}\n".utf8), ["several lines", "jq"]),
    ("pretty-printed, first field on the first line", Array("{ \"text\": \"a\",\n  \"x\": {}\n}\n".utf8), ["jq"]),
    ("rows in a field", Array("{\"data\": [\(line), \(line)]}".utf8), ["'data'", "jq -c '.data[]'"]),
    (
      "rows in a field, over lines", Array("{\n  \"data\": [\n    \(line)\n  ]\n}\n".utf8),
      ["'data'", "jq -c '.data[]'"]
    ),
    ("CSV", Array("instruction,input,output\nSay hi,,hi\nSay yo,,yo\n".utf8), ["CSV", "instruction,input,output"]),
    ("CSV with quotes", Array("\"prompt\";\"completion\"\r\n\"a\";\"b\"\r\n".utf8), ["CSV"]),
    ("TSV", Array("prompt\tcompletion\na\tb\n".utf8), ["CSV"]),
    ("text", Array("Once upon a time there was a file.\nIt was no JSONL.\n".utf8), ["JSONL"]),
    ("gzip", [0x1F, 0x8B, 8, 0, 0, 0, 0, 0], ["gzip"]),
    ("Parquet", Array("PAR1".utf8) + [0x15, 0, 0x15, 0], ["Parquet"]),
    ("Latin-1", Array("{\"text\":\"Gr".utf8) + [0xFC] + Array("ezi\"}\n{\"text\":\"a\"}\n".utf8), ["UTF-8", "iconv"]),
  ]

  /// One error, on one line, whatever the number of lines.
  @Test(arguments: others.indices)
  func whatIsNoJSONLIsNamed(index: Int) throws {
    let (name, bytes, words) = Self.others[index]
    // Bytes that begin with a mark cannot be repeated.
    for repeats in [1, 300] where repeats == 1 || (bytes.first ?? 0xFF) < 0x80 {
      let all = Array(repeatElement(bytes, count: repeats).joined())
      let error = #expect(throws: DataFileError.self, "\(name)") { try read(all) }
      let text = error?.description ?? ""
      for word in words { #expect(text.contains(word), "\(name): \(text)") }
      #expect(text.hasPrefix("rows.jsonl") && !text.contains("\n"), "\(name): \(text)")
    }
  }

  @Test func whatIsJSONLIsRead() throws {
    let plain = try read(Self.line + "\n" + Self.line)
    #expect(plain.examples.count == 2 && plain.mappings.isEmpty)
    for text in [
      "\u{FEFF}\(Self.line)\n\(Self.line)", "\(Self.line)\r\n\(Self.line)\r\n", "\n\n\(Self.line)\n\n \n\(Self.line)\n",
      "\u{FEFF}\r\n\(Self.line)\r\n\(Self.line)",
    ] {
      #expect(try read(text).examples == plain.examples)
    }
  }

  /// Lines longer than what is read at a time, and such as end where a piece does.
  @Test(arguments: [-2, -1, 0, 1])
  func linesAcrossPieces(offset: Int) throws {
    let size = 1 << 20
    func row(_ bytes: Int) -> String {
      let frame = #"{"tokens":[1,2],"note":""}"#
      return #"{"tokens":[1,2],"note":""# + String(repeating: "x", count: bytes - frame.utf8.count) + #""}"#
    }
    let text = row(size + offset) + "\n" + row(40) + "\n" + row(2 * size) + "\n" + row(40)
    #expect(try read(text).examples.count == 4)
    let error = #expect(throws: DataProblems.self) { try read(text + "\n{") }
    #expect(error?.problems.map(\.line) == [5])
  }

  @Test func aDamagedLineIsNoOtherKindOfFile() throws {
    for damaged in [#"{"messages":["#, "}", "oops", #"{"text":"a""#] {
      let error = #expect(throws: DataProblems.self) { try read("\(damaged)\n\(Self.line)\n\(Self.line)") }
      #expect(error?.problems.map(\.line) == [1] && error?.problems.map(\.name) == ["invalid_json"], "\(damaged)")
    }
  }

  @Test func errorsAreCountedAndTheFirstOnesListed() throws {
    let error = #expect(throws: DataProblems.self) {
      try read(Self.line + "\n" + String(repeating: "{}\n", count: 1500) + String(repeating: "{\n", count: 30))
    }
    let text = error?.description ?? ""
    #expect(error?.count == 1530 && error?.problems.count == 20)
    #expect(text.contains("1530 errors") && text.contains("1510 more"))
    #expect(text.split(separator: "\n").count == 22)
    #expect(error?.byName.map(\.name) == ["invalid_json", "missing_messages_list"])
    #expect(error?.byName.map(\.count) == [30, 1500])
  }

  // MARK: whose rows they are

  /// A row as text, with what is learnt in brackets.
  private func shown(_ row: TrainingRow) throws -> String {
    let tokenizer = try TinyModel().tokenizer()
    var (text, isLearnt) = ("", false)
    for (index, token) in row.tokens.enumerated() {
      let learnt = index > 0 && row.labels[index] != TrainingRow.ignored
      if learnt != isLearnt { text += learnt ? "[" : "]" }
      isLearnt = learnt
      text += tokenizer.decode([token], skippingSpecialTokens: false)
    }
    return text + (isLearnt ? "]" : "")
  }

  private func shown(_ line: String, method: Hyperparameters.Method = .supervised) throws -> (
    rows: [String], mapping: RowMapping?
  ) {
    let reading = try read(line, method: method)
    #expect(reading.examples.count == 1 && reading.mappings.count <= 1)
    return (try (reading.examples.first?.rows ?? []).map(shown), reading.mappings.first)
  }

  @Test(arguments: [
    (
      #"{"instruction":"Add","input":"1 2","output":"3"}"#, "user:Add\n\n1 2<|end|>\nassistant:[3<|end|>]\n",
      RowMapping.alpaca
    ),
    (#"{"instruction":"Hi","input":"","output":"Yo"}"#, "user:Hi<|end|>\nassistant:[Yo<|end|>]\n", .alpaca),
    (#"{"instruction":"Hi","output":"Yo","text":"Hi Yo"}"#, "user:Hi<|end|>\nassistant:[Yo<|end|>]\n", .alpaca),
    (
      #"{"instruction":"Hi","input":null,"output":"Yo","system":"S","history":[["q","a"]]}"#,
      "system:S<|end|>\nuser:q<|end|>\nassistant:[a<|end|>]\nuser:Hi<|end|>\nassistant:[Yo<|end|>]\n", .alpaca
    ),
    (
      #"{"conversations":[{"from":"system","value":"S"},{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#,
      "system:S<|end|>\nuser:q<|end|>\nassistant:[a<|end|>]\n", .shareGPT
    ),
    (
      #"{"conversations":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
      "user:q<|end|>\nassistant:[a<|end|>]\n", .conversations
    ),
    (
      #"{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}]}"#,
      "user:q<|end|>\nassistant:[a<|end|>]\n", .promptCompletion
    ),
    (
      // What the assistant says in the prompt is not learnt.
      #"{"prompt":[{"role":"user","content":"q"},{"role":"assistant","content":"a"},{"role":"user","content":"r"}],"#
        + #""completion":[{"role":"assistant","content":"b"}]}"#,
      "user:q<|end|>\nassistant:a<|end|>\nuser:r<|end|>\nassistant:[b<|end|>]\n", .promptCompletion
    ),
  ])
  func rowsOfOtherPrograms(line: String, wanted: String, mapping: RowMapping) throws {
    let found = try shown(line)
    #expect(found.rows == [wanted])
    #expect(found.mapping == mapping && !mapping.description.isEmpty)
  }

  @Test(arguments: [
    (
      #"{"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"assistant","content":"a"}],"#
        + #""rejected":[{"role":"assistant","content":"b"}]}"#, RowMapping.explicitPair
    ),
    (
      #"{"chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"#
        + #""rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"b"}]}"#, .implicitPair
    ),
    (
      #"{"prompt":"q","chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"#
        + #""rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"b"}],"score_chosen":9.0}"#,
      .implicitPair
    ),
    (
      #"{"prompt":"q","chosen":[{"role":"assistant","content":"a"}],"rejected":[{"role":"assistant","content":"b"}]}"#,
      .explicitPair
    ),
    (#"{"instruction":"q","input":"","chosen":"a","rejected":"b"}"#, .alpacaPair),
    (
      #"{"conversations":[{"from":"human","value":"q"}],"chosen":{"from":"gpt","value":"a"},"#
        + #""rejected":{"from":"gpt","value":"b"}}"#, .shareGPTPair
    ),
  ])
  func pairsOfOtherPrograms(line: String, mapping: RowMapping) throws {
    let found = try shown(line, method: .dpo)
    let wanted = ["a", "b"].map { "user:q<|end|>\nassistant:[\($0)<|end|>]\n" }
    #expect(found.rows == wanted)
    #expect(found.mapping == mapping && !mapping.description.isEmpty)
    #expect(throws: DataProblems.self) { try read(line, method: .supervised) }
  }

  /// OpenAI's own forms need no mapping, and what looks like two forms is one.
  @Test func formsThatAreOurOwn() throws {
    let texts = [Self.line, #"{"text":"a"}"#, #"{"prompt":"a","completion":"b"}"#, #"{"tokens":[1,2]}"#]
    #expect(try read(texts.joined(separator: "\n")).mappings.isEmpty)
    let pair =
      #"{"input":{"messages":[{"role":"user","content":"q"}]},"preferred_output":"#
      + #"[{"role":"assistant","content":"a"}],"non_preferred_output":[{"role":"assistant","content":"b"}]}"#
    #expect(try read(pair, method: .dpo).mappings.isEmpty)
    let mixed = try read(Self.line + "\n" + #"{"instruction":"Hi","output":"Yo"}"#)
    #expect(mixed.mappings == [.alpaca] && mixed.examples.count == 2)
  }

  /// Fields that would change what is learnt are refused by their names, unless they say nothing.
  @Test(arguments: [
    #"{"prompt":"a","completion":"b","label":true}"#,
    #"{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}],"label":false}"#,
  ])
  func whatWouldChangeTheMeaningIsRefused(line: String) throws {
    let error = #expect(throws: DataProblems.self) { try read(line) }
    #expect(error?.count == 1)
    #expect(error?.problems.first?.detail.contains("'label'") == true && error?.description.contains("KTO") == true)
  }

  @Test func ambiguousRowsAreRefused() throws {
    for (line, method) in [
      (#"{"chosen":[{"role":"assistant","content":"a"}],"rejected":[{"role":"assistant","content":"b"}]}"#, .dpo),
      (#"{"conversations":[{"from":"narrator","value":"q"},{"from":"gpt","value":"a"}]}"#, .supervised),
      (#"{"conversations":[{"from":"human","value":"q"}]}"#, .supervised),
      (#"{"instruction":"q","output":7}"#, .supervised),
      (#"{"question":"q","answer":"a"}"#, .supervised),
    ] as [(String, Hyperparameters.Method)] {
      let error = #expect(throws: DataProblems.self, "\(line)") { try read(line, method: method) }
      #expect(error?.problems.first?.line == 1)
    }
  }
}
