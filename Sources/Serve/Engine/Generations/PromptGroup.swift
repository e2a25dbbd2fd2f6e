/// Requests of one client with the same prompt and weights, such as the choices of one completion. One of them computes
/// the prompt while the others wait; then they share its keys and values, and its log-probabilities. Used on the
/// engine's thread only.
final class PromptGroup {
  struct Key: Hashable {
    var stream: StreamKey
    var prompt: [Int32]
    /// Whether the prompt's tokens are reported.
    var echoes: Bool
    /// How many log-probabilities are reported with each token.
    var topLogprobs: Int?
    /// How many log-probabilities are reported with each token of the prompt.
    var promptLogprobs: Int?
    /// Whether the mean of the prompt's hidden states is reported.
    var pools: Bool
  }

  let id: UInt64
  let key: Key
  /// Members that have not ended.
  var members = 0
  /// Whether the group has ever had a second member.
  var isShared = false
  /// The prompt's tokens with their log-probabilities, once they are known, if they were requested.
  var records: [TokenRecord]?
  /// The sums of the prompt's hidden states, once they are known, if they were requested.
  var pooled: PooledStates?

  init(id: UInt64, key: Key) {
    self.id = id
    self.key = key
  }
}
