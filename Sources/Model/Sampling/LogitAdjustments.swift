/// The changes that bias and penalties make to the logits. They concern a few tokens, which are recorded as the answer
/// grows.
struct LogitAdjustments: Sendable {
  private struct Entry {
    var token: Int32
    var bias: Float = 0
    /// How often the answer has the token.
    var count: Float = 0
    /// How often the token is in the part of prompt and answer for which the repetition penalty counts tokens.
    var repeats = 0
  }

  private var entries: [Entry] = []
  /// Each token's index in `entries`.
  private var indices: [Int32: Int] = [:]
  private let repetition, presence, frequency: Float
  /// The repetition penalty counts so many of the last tokens; `nil` for all.
  private let window: Int?
  /// The last tokens of prompt and answer, `window` at most, as a ring whose oldest token is at `oldest`.
  private var recent: [Int32] = []
  private var oldest = 0

  init(_ parameters: SamplingParameters, prompt: [Int32]) {
    repetition = parameters.repetitionWindow == 0 ? 1 : parameters.repetitionPenalty
    window = parameters.repetitionWindow
    presence = parameters.presencePenalty
    frequency = parameters.frequencyPenalty
    for (token, bias) in parameters.logitBias where bias != 0 { change(token) { $0.bias = bias } }
    if repetition != 1 {
      for token in prompt.suffix(window ?? prompt.count) { countRepeat(token) }
    }
  }

  /// Whether the logits stay as they are.
  var isEmpty: Bool { entries.isEmpty }

  /// Records a token of the answer.
  mutating func accept(_ token: Int32) {
    guard repetition != 1 || presence != 0 || frequency != 0 else { return }
    change(token) { $0.count += 1 }
    if repetition != 1 { countRepeat(token) }
  }

  /// Counts a token for the repetition penalty, and no longer counts the one that leaves the window.
  private mutating func countRepeat(_ token: Int32) {
    change(token) { $0.repeats += 1 }
    guard let window else { return }
    if recent.count < window { return recent.append(token) }
    change(recent[oldest]) { $0.repeats -= 1 }
    recent[oldest] = token
    oldest = (oldest + 1) % window
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
      if entry.repeats > 0 { logit = logit > 0 ? logit / repetition : logit * repetition }
      if entry.count > 0 { logit -= frequency * entry.count + presence }
      logits[Int(entry.token)] = logit
    }
  }
}
