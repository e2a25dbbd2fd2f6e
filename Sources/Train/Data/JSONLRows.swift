public import Tokenization
public import Formats
public import Foundation
public import Model

/// Reads the rows of a JSONL file: chats and preferences as OpenAI writes them, token ids with labels, plain text, or a
/// prompt with its completion (for preferences: with a chosen and a rejected one).
///
/// - `{"messages": […]}`: loss on what the assistant says and on the end of its turn
/// - `{"tokens": […], "labels": […]}`: labels of −100 carry no loss; without labels every token does
/// - `{"text": "…"}`: loss on everything, and on the end token that is put behind it
/// - `{"prompt": "…", "completion": "…"}`: loss on the completion and the end token
/// - `{"input": {"messages": …}, "preferred_output": […], "non_preferred_output": […]}`
/// - `{"prompt": "…", "chosen": "…", "rejected": "…"}`
///
/// Rows in the formats of other programs are read as chats; `Reading.mappings` says which formats a file had.
public struct JSONLRows: RowSource {
  /// The contents of a file.
  public struct Reading: Sendable, Equatable {
    /// In the order of the file.
    public var examples: [TrainingExample] = []
    /// The formats of other programs that rows were converted from.
    public var mappings: Set<RowMapping> = []
  }

  private let file: URL
  private let name: String
  private let tokenizer: Tokenizer
  private let endToken: Int32?
  private let chat: Result<ChatFormat, ModelError>?
  private let method: Hyperparameters.Method?
  private let memoryLimit: Int?

  /// - Parameters:
  ///   - name: what errors call the file; `nil` for its own name
  ///   - endToken: is appended to texts and completions; `nil` appends nothing
  ///   - chat: how chats become tokens; without it, rows that are chats are refused
  ///   - method: rows that this method cannot learn from are refused; `nil` accepts all
  ///   - memoryLimit: the maximum bytes of all rows; `nil` for no limit
  public init(
    file: URL, name: String? = nil, tokenizer: Tokenizer, endToken: Int32?,
    chat: Result<ChatFormat, ModelError>? = nil, method: Hyperparameters.Method? = nil, memoryLimit: Int? = nil
  ) {
    self.file = file
    self.name = name ?? file.lastPathComponent
    self.tokenizer = tokenizer
    self.endToken = endToken
    self.chat = chat
    self.method = method
    self.memoryLimit = memoryLimit
  }

  /// The examples alone; see `read`.
  public func examples() throws -> [TrainingExample] { try read().examples }

  /// Reads the whole file.
  /// - Parameter shouldStop: asked before each line
  /// - Throws: `DataFileError` for a file that is not JSONL; `DataProblems` with what is wrong with the lines;
  ///   `DataSizeError` if they take too much memory; `ModelError` if the file cannot be read; `CancellationError` if
  ///   `shouldStop` returned true
  public func read(shouldStop: () -> Bool = { false }) throws -> Reading {
    let mapped = try MappedFile(file)
    var lines = LineReader(mapped, from: try TrainingFileKind.firstLine(mapped, name: name), name: name)
    var reading = Reading()
    var problems = DataProblems(file: name)
    var bytes = 0
    while let line = try lines.next() {
      if shouldStop() { throw CancellationError() }
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
      do throws(LineErrors) {
        let (example, mapping) = try example(line)
        if let mapping { reading.mappings.insert(mapping) }
        // A file with errors is only checked to its end; its rows are not needed.
        if problems.count > 0 { continue }
        bytes += example.bytes
        reading.examples.append(example)
      } catch {
        reading.examples = []
        for error in error.errors {
          problems.add(DataProblem(line: lines.number, name: error.name, detail: error.detail))
        }
      }
      if let memoryLimit, bytes > memoryLimit { throw DataSizeError(file: name, limit: memoryLimit) }
    }
    guard problems.count == 0 else { throw problems }
    return reading
  }

  private func example(
    _ line: ArraySlice<UInt8>
  ) throws(LineErrors) -> (example: TrainingExample, mapping: RowMapping?) {
    let value: JSONValue
    do { value = try JSONValue.parse(line, subject: name) } catch {
      throw refusal("invalid_json", (error as? ModelError)?.reason ?? "\(error)")
    }
    guard let object = value.object else { throw refusal("data_type", "the line is no JSON object") }
    if let refused = RefusedFields.first(in: object) { throw LineErrors(errors: [refused]) }
    let (example, mapping) = try example(object)
    switch (example, method) {
    case (.row, .dpo): throw refusal("wrong_method", "the line is no pair, which dpo needs")
    case (.pair, .supervised): throw refusal("wrong_method", "the line is a pair, which only dpo can use")
    default: break
    }
    for row in example.rows {
      if let problem = row.check(vocabulary: tokenizer.vocabularySize) { throw refusal("invalid_value", problem) }
    }
    return (example, mapping)
  }

  private func refusal(_ name: String, _ detail: String) -> LineErrors {
    LineErrors(errors: [LineError(name, detail)])
  }

  /// Finds a row's format by its fields. The fields that identify a format most clearly are tried first.
  private func example(
    _ object: JSONObject
  ) throws(LineErrors) -> (example: TrainingExample, mapping: RowMapping?) {
    func has(_ keys: String...) -> Bool { keys.allSatisfy { object[$0].map { !$0.isNull } ?? false } }
    /// Refuses a row that has fields of a chat which this format does not read, since they would be lost.
    func reads(_ fields: String...) throws(LineErrors) {
      if let lost = RefusedFields.lost(in: object, read: Set(fields)) { throw LineErrors(errors: [lost]) }
    }
    if has("tokens") {
      try reads()
      let tokens = try integers(object, "tokens")
      let labels = has("labels") ? try integers(object, "labels") : tokens
      return (.row(TrainingRow(tokens: tokens, labels: labels)), nil)
    }
    // A preference data set may also have the chosen chat under `messages`.
    let isPreference = method == .dpo && has("chosen", "rejected")
    if object["messages"] != nil, !isPreference {
      try reads("tools", "functions")
      return (try row(try ChatLine.read(object)), nil)
    }
    if has("conversations") {
      try reads("system", "tools", "functions")
      guard has("chosen", "rejected") else {
        let (line, mapping) = try ChatLine.readConversations(object)
        return (try row(line), mapping)
      }
      return (try pair(try ChatLine.readConversationsPreference(object)), .shareGPTPair)
    }
    if has("instruction"), has("chosen", "rejected") || has("output") {
      try reads("system", "history")
      if isPreference || !has("output") {
        return (try pair(try ChatLine.readAlpacaPreference(object)), .alpacaPair)
      }
      return (try row(try ChatLine.readAlpaca(object)), .alpaca)
    }
    if object["preferred_output"] != nil || object["input"]?.object != nil {
      try reads()
      return (try pair(try ChatLine.readPreference(object)), nil)
    }
    if object["chosen"]?.array != nil || object["rejected"]?.array != nil {
      try reads("tools", "functions")
      let (chosen, rejected, mapping) = try ChatLine.readMessagePreference(object)
      return (try pair((chosen, rejected)), mapping)
    }
    if object["completion"]?.array != nil || (has("completion") && object["prompt"]?.array != nil) {
      try reads("tools", "functions")
      return (try row(try ChatLine.readPromptCompletion(object)), .promptCompletion)
    }
    if has("chosen") || has("rejected") {
      try reads()
      let prompt = try text(object, "prompt")
      let chosen = row(prompt: prompt, completion: try text(object, "chosen"))
      return (.pair(chosen: chosen, rejected: row(prompt: prompt, completion: try text(object, "rejected"))), nil)
    }
    if object["completion"] != nil {
      try reads()
      return (.row(row(prompt: try text(object, "prompt"), completion: try text(object, "completion"))), nil)
    }
    if object["text"] != nil {
      try reads()
      return (.row(row(prompt: "", completion: try text(object, "text"))), nil)
    }
    throw refusal("missing_messages_list", Self.unknownForm(object))
  }

  private static func unknownForm(_ object: JSONObject) -> String {
    let keys = object.keys.prefix(8).map { "'\($0.prefix(40))'" }.joined(separator: ", ")
    let found = object.isEmpty ? "no fields" : "the fields \(keys)\(object.keys.count > 8 ? " …" : "")"
    return "the line has \(found); rows have 'messages', 'prompt' and 'completion', 'text', 'tokens', or for dpo "
      + "'prompt', 'chosen' and 'rejected' or 'input', 'preferred_output' and 'non_preferred_output'"
  }

  private func row(_ line: ChatLine) throws(LineErrors) -> TrainingExample {
    .row(try line.row(try chatFormat()))
  }

  private func pair(_ lines: (chosen: ChatLine, rejected: ChatLine)) throws(LineErrors) -> TrainingExample {
    let format = try chatFormat()
    return .pair(chosen: try lines.chosen.row(format), rejected: try lines.rejected.row(format))
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

  /// Prompt and completion are encoded separately, so that a token boundary lies where the loss begins.
  private func row(prompt: String, completion: String) -> TrainingRow {
    var tokens = tokenizer.encode(prompt, parsingSpecialTokens: true)
    let count = tokens.count
    tokens += tokenizer.encode(completion, parsingSpecialTokens: false, addingBOS: prompt.isEmpty ? nil : false)
    if let endToken { tokens.append(endToken) }
    let labels = tokens.enumerated().map { $0 < count ? TrainingRow.ignored : $1 }
    return TrainingRow(tokens: tokens, labels: labels)
  }
}
