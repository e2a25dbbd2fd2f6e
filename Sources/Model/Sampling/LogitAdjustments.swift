/// The changes that bias and penalties make to the logits. They concern a few tokens, which are recorded as the answer
/// grows.
struct LogitAdjustments: Sendable {
  private struct Entry {
    var token: Int32
    var bias: Float = 0
    /// How often the answer has the token.
    var count: Float = 0
    /// The repetition penalty applies: the token is in the prompt or the answer.
    var isRepeated = false
  }

  private var entries: [Entry] = []
  /// Each token's index in `entries`.
  private var indices: [Int32: Int] = [:]
  private let repetition, presence, frequency: Float

  init(_ parameters: SamplingParameters, prompt: [Int32]) {
    repetition = parameters.repetitionPenalty
    presence = parameters.presencePenalty
    frequency = parameters.frequencyPenalty
    for (token, bias) in parameters.logitBias where bias != 0 { change(token) { $0.bias = bias } }
    if repetition != 1 {
      for token in prompt { change(token) { $0.isRepeated = true } }
    }
  }

  /// Whether the logits stay as they are.
  var isEmpty: Bool { entries.isEmpty }

  /// Records a token of the answer.
  mutating func accept(_ token: Int32) {
    guard repetition != 1 || presence != 0 || frequency != 0 else { return }
    let repeats = repetition != 1
    change(token) { entry in
      entry.count += 1
      entry.isRepeated = repeats
    }
  }

  private mutating func change(_ token: Int32, _ body: (inout Entry) -> Void) {
    if let index = indices[token] { return body(&entries[index]) }
    indices[token] = entries.count
    var entry = Entry(token: token)
    body(&entry)
    entries.append(entry)
  }

  /// - Parameter logits: [count], changed in place
  func apply(to logits: UnsafeMutablePointer<Float>, count: Int) {
    for entry in entries where entry.token >= 0 && Int(entry.token) < count {
      var logit = logits[Int(entry.token)] + entry.bias
      if entry.isRepeated { logit = logit > 0 ? logit / repetition : logit * repetition }
      if entry.count > 0 { logit -= frequency * entry.count + presence }
      logits[Int(entry.token)] = logit
    }
  }
}
