public import Foundation
public import Model

/// Rows out of a JSONL file: chats and preferences as OpenAI writes them, token ids with labels, plain text, or a
/// prompt with its completion (or, for preferences, a chosen and a rejected one).
///
/// - `{"messages": […]}`: loss on what the assistant says and on the end of its turn
/// - `{"tokens": […], "labels": […]}`: labels of −100 carry no loss; without labels every token does
/// - `{"text": "…"}`: loss on everything, and on the end token that is put behind it
/// - `{"prompt": "…", "completion": "…"}`: loss on the completion and the end token
/// - `{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}`
/// - `{"prompt": "…", "chosen": "…", "rejected": "…"}`
public struct JSONLRows: RowSource {
  private let file: URL
  private let name: String
  private let tokenizer: Tokenizer
  private let endToken: Int32?
  private let chat: Result<ChatFormat, ModelError>?
  private let method: Hyperparameters.Method?

  private static let fileLimit = 4 << 30

  /// - Parameters:
  ///   - name: what errors call the file; `nil` for its own name
  ///   - endToken: what ends a text; none is put where it is missing
  ///   - chat: how chats become tokens; lines that are chats are refused without it
  ///   - method: lines that it has no use for are refused
  public init(
    file: URL, name: String? = nil, tokenizer: Tokenizer, endToken: Int32?,
    chat: Result<ChatFormat, ModelError>? = nil, method: Hyperparameters.Method? = nil
  ) {
    self.file = file
    self.name = name ?? file.lastPathComponent
    self.tokenizer = tokenizer
    self.endToken = endToken
    self.chat = chat
    self.method = method
  }

  /// - Throws: `DataProblems` with everything that is wrong with the lines; `ModelError` where the file cannot be read
  public func examples() throws -> [TrainingExample] {
    let mapped = try MappedFile(file)
    guard mapped.count <= Self.fileLimit else { throw ModelError(name, reason: "has \(mapped.count) bytes") }
    let bytes = try mapped.read(offset: 0, count: mapped.count)
    var examples: [TrainingExample] = []
    var problems = DataProblems(file: name)
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
      do throws(LineErrors) { examples.append(try example(line)) } catch {
        for error in error.errors {
          problems.add(DataProblem(line: index + 1, name: error.name, detail: error.detail))
        }
      }
    }
    guard problems.count == 0 else { throw problems }
    return examples
  }

  private func example(_ line: ArraySlice<UInt8>) throws(LineErrors) -> TrainingExample {
    let value: JSONValue
    do { value = try JSONValue.parse(line, subject: name) } catch {
      throw refusal("invalid_json", (error as? ModelError)?.reason ?? "\(error)")
    }
    guard let object = value.object else { throw refusal("data_type", "the line is no JSON object") }
    let example = try example(object)
    switch (example, method) {
    case (.row, .dpo): throw refusal("wrong_method", "the line is no pair, which dpo needs")
    case (.pair, .supervised): throw refusal("wrong_method", "the line is a pair, which only dpo can use")
    default: break
    }
    for row in example.rows {
      if let problem = row.check(vocabulary: tokenizer.vocabularySize) { throw refusal("invalid_value", problem) }
    }
    return example
  }

  private func refusal(_ name: String, _ detail: String) -> LineErrors {
    LineErrors(errors: [LineError(name, detail)])
  }

  private func example(_ object: JSONObject) throws(LineErrors) -> TrainingExample {
    if object["tokens"] != nil {
      let tokens = try integers(object, "tokens")
      let labels = object["labels"] == nil ? tokens : try integers(object, "labels")
      return .row(TrainingRow(tokens: tokens, labels: labels))
    }
    if object["input"] != nil || object["preferred_output"] != nil {
      let (chosen, rejected) = try ChatLine.readPreference(object)
      let format = try chatFormat()
      return .pair(chosen: try chosen.row(format), rejected: try rejected.row(format))
    }
    if object["messages"] == nil {
      if object["text"] != nil { return .row(row(prompt: "", completion: try text(object, "text"))) }
      if object["completion"] != nil {
        return .row(row(prompt: try text(object, "prompt"), completion: try text(object, "completion")))
      }
      if object["chosen"] != nil {
        let prompt = try text(object, "prompt")
        return .pair(
          chosen: row(prompt: prompt, completion: try text(object, "chosen")),
          rejected: row(prompt: prompt, completion: try text(object, "rejected")))
      }
      throw refusal(
        "missing_messages_list", "the line has neither messages, nor prompt and completion, nor text, nor tokens")
    }
    let line = try ChatLine.read(object)
    return .row(try line.row(try chatFormat()))
  }

  private func chatFormat() throws(LineErrors) -> ChatFormat {
    switch chat {
    case .success(let format): return format
    case .failure(let error): throw refusal("template_error", error.description)
    case nil: throw refusal("template_error", "chats cannot be read without a chat template")
    }
  }

  private func text(_ object: JSONObject, _ key: String) throws(LineErrors) -> String {
    guard let text = object[key]?.string else { throw refusal("data_type", "'\(key)' is no string") }
    return text
  }

  private func integers(_ object: JSONObject, _ key: String) throws(LineErrors) -> [Int32] {
    let values = object[key]?.array?.compactMap { $0.integer.flatMap { Int32(exactly: $0) } }
    guard let values, values.count == object[key]?.array?.count else {
      throw refusal("data_type", "'\(key)' is no list of token ids")
    }
    return values
  }

  /// Prompt and completion are encoded apart, so that the boundary is where the loss begins.
  private func row(prompt: String, completion: String) -> TrainingRow {
    var tokens = tokenizer.encode(prompt, parsingSpecialTokens: true)
    let count = tokens.count
    tokens += tokenizer.encode(completion, parsingSpecialTokens: false, addingBOS: prompt.isEmpty ? nil : false)
    if let endToken { tokens.append(endToken) }
    let labels = tokens.enumerated().map { $0 < count ? TrainingRow.ignored : $1 }
    return TrainingRow(tokens: tokens, labels: labels)
  }
}
