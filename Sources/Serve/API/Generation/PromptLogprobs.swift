import Formats
import Model
import Tokenization

/// `prompt_logprobs` in vLLM's form.
enum PromptLogprobs {
  /// A list with an entry for each token of a prompt: null for the first, then an object of the token itself and the most
  /// probable ones, by id.
  /// - Parameter count: how many of the most probable tokens there are
  static func json(_ records: [TokenRecord], count: Int, _ tokenizer: Tokenizer) -> JSONValue {
    .array(
      records.map { record in
        guard let logprob = record.logprob, let rank = record.rank else { return .null }
        var pairs = [entry(record.token, record.bytes, logprob, rank: Int(rank))]
        for (index, top) in record.top.prefix(count).enumerated() where top.token != record.token {
          pairs.append(entry(top.token, tokenizer.tokenBytes(top.token) ?? [], top.logprob, rank: index + 1))
        }
        return .object(JSONObject(keepingFirst: pairs))
      })
  }

  private static func entry(
    _ token: Int32, _ bytes: [UInt8], _ logprob: Float, rank: Int
  ) -> (key: String, value: JSONValue) {
    (
      "\(token)",
      [
        "logprob": .logprob(logprob), "rank": .integer(rank), "decoded_token": .string(CompletionLogprobs.name(bytes)),
      ]
    )
  }
}

extension [TokenRecord] {
  /// The records with at most `count` of the most probable tokens each.
  func keepingTop(_ count: Int) -> [TokenRecord] {
    map { record in
      var record = record
      if record.top.count > count { record.top.removeLast(record.top.count - count) }
      return record
    }
  }
}

extension JSONValue {
  /// An object with `prompt_logprobs` added, where they were requested.
  func adding(promptLogprobs: JSONValue?) -> JSONValue {
    guard let promptLogprobs, let object else { return self }
    return .object(JSONObject(keepingFirst: object.pairs + [(key: "prompt_logprobs", value: promptLogprobs)]))
  }
}
