public import Foundation
public import Model

/// Rows out of a JSONL file whose lines need no chat template: token ids with labels, plain text, or a prompt with its
/// completion (or, for preferences, a chosen and a rejected one). Lines of another form go to `fallback`.
///
/// - `{"tokens": […], "labels": […]}`: labels of −100 carry no loss; without labels every token does
/// - `{"text": "…"}`: loss on everything, and on the end token that is put behind it
/// - `{"prompt": "…", "completion": "…"}`: loss on the completion and the end token
/// - `{"prompt": "…", "chosen": "…", "rejected": "…"}`
public struct JSONLRows: RowSource {
  public typealias Fallback = (_ line: JSONObject, _ number: Int) throws -> TrainingExample

  private let file: URL
  private let tokenizer: Tokenizer
  private let endToken: Int32?
  private let fallback: Fallback?

  private static let fileLimit = 4 << 30

  /// - Parameters:
  ///   - endToken: what ends a text; none is put where it is missing
  ///   - fallback: makes an example of a line that has none of the forms above
  public init(file: URL, tokenizer: Tokenizer, endToken: Int32?, fallback: Fallback? = nil) {
    self.file = file
    self.tokenizer = tokenizer
    self.endToken = endToken
    self.fallback = fallback
  }

  /// - Throws: `ModelError` naming the file and the line
  public func examples() throws -> [TrainingExample] {
    let mapped = try MappedFile(file)
    guard mapped.count <= Self.fileLimit else { throw ModelError(file.path, reason: "has \(mapped.count) bytes") }
    let bytes = try mapped.read(offset: 0, count: mapped.count)
    var examples: [TrainingExample] = []
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
      let subject = "\(file.lastPathComponent): line \(index + 1)"
      guard let object = try JSONValue.parse(line, subject: subject).object else {
        throw ModelError(subject, reason: "is no JSON object")
      }
      examples.append(try example(object, subject: subject, number: index + 1))
    }
    return examples
  }

  private func example(_ object: JSONObject, subject: String, number: Int) throws -> TrainingExample {
    func text(_ key: String) throws -> String {
      guard let text = object[key]?.string else { throw ModelError(subject, key, reason: "is no string") }
      return text
    }
    if object["tokens"] != nil {
      let tokens = try integers(object, "tokens", subject)
      let labels = object["labels"] == nil ? tokens : try integers(object, "labels", subject)
      return .row(TrainingRow(tokens: tokens, labels: labels))
    }
    if object["text"] != nil { return .row(row(prompt: "", completion: try text("text"))) }
    if object["completion"] != nil {
      return .row(row(prompt: try text("prompt"), completion: try text("completion")))
    }
    if object["chosen"]?.string != nil {
      let prompt = try text("prompt")
      return .pair(
        chosen: row(prompt: prompt, completion: try text("chosen")),
        rejected: row(prompt: prompt, completion: try text("rejected")))
    }
    if let fallback { return try fallback(object, number) }
    throw ModelError(subject, reason: "has neither tokens, text, nor prompt and completion")
  }

  private func integers(_ object: JSONObject, _ key: String, _ subject: String) throws -> [Int32] {
    let values = object[key]?.array?.compactMap { $0.integer.flatMap { Int32(exactly: $0) } }
    guard let values, values.count == object[key]?.array?.count else {
      throw ModelError(subject, key, reason: "is no list of token ids")
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
