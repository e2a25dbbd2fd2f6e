/// Requests of one client with the same prompt and weights, such as the choices of one completion: the first computes
/// the prompt while the others wait, and then share its keys, values and logprobs. The engine thread's alone.
final class PromptGroup {
  struct Key: Hashable {
    var stream: StreamKey
    var prompt: [Int32]
    /// What is told of the prompt.
    var echoes: Bool
    var topLogprobs: Int?
  }

  let id: UInt64
  let key: Key
  /// Requests in it that have not ended.
  var members = 0
  /// Whether there was ever more than one.
  var isShared = false
  /// The prompt's tokens with their logprobs, once they are known, if they were asked for.
  var records: [TokenRecord]?

  init(id: UInt64, key: Key) {
    self.id = id
    self.key = key
  }
}
