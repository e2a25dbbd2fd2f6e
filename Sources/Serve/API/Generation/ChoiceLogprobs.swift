import Formats
import Tokenization

/// The log-probabilities of a whole choice, before they are written. Writing thousands of tokens takes long, so a pool does it.
struct ChoiceLogprobs: Sendable {
  /// How many log-probabilities are written on the loop, which takes about a millisecond.
  static let maximumOnLoop = 1000

  /// The prompt's tokens, where their log-probabilities were requested.
  var prompt: [TokenRecord] = []
  /// The answer's tokens.
  var answer: [TokenRecord] = []
  private let request: AnswerRequest
  private let tokenizer: Tokenizer

  init(_ request: AnswerRequest, _ tokenizer: Tokenizer) {
    self.request = request
    self.tokenizer = tokenizer
  }

  /// How many log-probabilities are written.
  var count: Int {
    let options = request.options
    var count = 0
    if let wanted = options.promptLogprobs { count += prompt.count * (wanted + 1) }
    if request.showsLogprobs {
      count += (answer.count + (options.echoesPrompt ? prompt.count : 0)) * ((options.topLogprobs ?? 0) + 1)
    }
    return count
  }

  /// The route's `logprobs`; null where none were requested.
  var json: JSONValue {
    guard request.showsLogprobs else { return .null }
    var writer = request.shape.makeLogprobs(tokenizer)
    if request.options.echoesPrompt { writer.append(shown(prompt), isPrompt: true) }
    writer.append(answer, isPrompt: false)
    return writer.take()
  }

  /// `prompt_logprobs`; `nil` where they were not requested.
  var promptJSON: JSONValue? {
    request.options.promptLogprobs.map { PromptLogprobs.json(prompt, count: $0, tokenizer) }
  }

  /// Tokens of the prompt as `logprobs` has them. They may have been asked for with more alternatives than the answer.
  func shown(_ records: [TokenRecord]) -> [TokenRecord] {
    request.options.topLogprobs.map { records.keepingTop($0) } ?? records
  }
}
