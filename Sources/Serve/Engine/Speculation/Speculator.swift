import Model

/// Tokens that may come next in a sequence. A pass computes some of them beside the last known token; those that turn out
/// right need no pass of their own.
struct Draft {
  var tokens: [Int32]
  var reason: DraftReason
}

/// Proposes a generation's next tokens: those that its grammar forces, else those that followed an earlier occurrence of
/// its last tokens.
///
/// A draft never changes an answer: every token is drawn from the logits of its own row, which are the same bits in any
/// batch. A draft only decides how many rows a pass has.
struct Speculator {
  /// The maximum tokens of a draft.
  static let longestDraft = 31

  private var lookup = PromptLookup()
  private var rates = AcceptanceRates()
  private(set) var draft: Draft?

  /// The expected rate at which the draft's tokens are right, each if those before it are.
  var rate: Double { draft.map { rates[$0.reason] } ?? 0 }

  /// Makes a draft that follows the tokens.
  /// - Parameters:
  ///   - tokens: prompt and answer
  ///   - limit: the maximum tokens of the draft
  ///   - constraint: the grammar of the answer
  ///   - excludes: whether no draft has a token, because it ends the answer or the model cannot compute it
  mutating func propose(
    after tokens: [Int32], limit: Int, constraint: ConstrainedAnswer?, excludes: (Int32) -> Bool
  ) {
    draft = nil
    let limit = min(limit, Self.longestDraft)
    // The index follows the text in any case.
    let match = lookup.match(tokens)
    guard limit > 0 else { return }
    var found = Draft(tokens: constraint?.forcedTokens(limit: limit) ?? [], reason: .grammar)
    if found.tokens.isEmpty, let match {
      let continuation = PromptLookup.continuation(of: match, in: tokens, count: limit)
      found = Draft(tokens: continuation, reason: DraftReason(matchLength: match.length))
      if let constraint { found.tokens = constraint.allowedBeginning(of: found.tokens) }
    }
    found.tokens = Array(found.tokens.prefix { !excludes($0) })
    if !found.tokens.isEmpty { draft = found }
  }

  /// Records what became of the draft.
  /// - Parameters:
  ///   - accepted: how many of its tokens were right
  ///   - computed: how many of its tokens were computed
  mutating func record(accepted: Int, of computed: Int) {
    guard let draft else { return }
    if computed > 0 {
      rates.record(draft.reason, accepted: accepted, of: computed)
    } else {
      rates.skip(draft.reason)
    }
  }

  /// Forgets the draft.
  mutating func discard() { draft = nil }
}
