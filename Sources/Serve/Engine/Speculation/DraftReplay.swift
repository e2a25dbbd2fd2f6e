/// What drafts would gain for a lone sequence on a model whose passes take given times, along answers that are known.
///
/// An answer does not depend on drafts. So the answers of one model tell which drafts another would have right that gives the
/// same answers, and the times of its passes how long they take. The drafts, their rates and the number of their rows are those of
/// the engine, which learns them here as it does there.
public struct DraftReplay {
  /// Times of passes with 1, 2, 4, … rows. Passes with rows between two of these take as long as with more rows.
  private let seconds: [Double]
  private var cost = PassCost()
  /// How long the answers take with drafts and without.
  public private(set) var time = (drafting: 0.0, plain: 0.0)
  /// Tokens that were computed for drafts, and how many of them were right.
  public private(set) var tokens = (drafted: 0, accepted: 0)

  /// - Parameter seconds: times of passes with 1, 2, 4, … rows, of which there must be one
  public init(seconds: [Double]) {
    precondition(!seconds.isEmpty, "times of passes are needed")
    self.seconds = seconds
  }

  private var mostRows: Int { 1 << (seconds.count - 1) }

  private func seconds(rows: Int) -> Double {
    seconds[rows <= 1 ? 0 : Int.bitWidth - (rows - 1).leadingZeroBitCount]
  }

  /// Decodes an answer. Its first token is made by the pass of the prompt, which has no draft.
  public mutating func decode(_ answer: [Int32], after prompt: [Int32]) {
    var speculator = Speculator()
    var text = prompt + answer.prefix(1)
    var rest = answer.dropFirst()
    while !rest.isEmpty {
      speculator.propose(after: text, limit: Speculator.longestDraft, constraint: nil) { _ in false }
      let proposed = (speculator.draft?.tokens ?? []).prefix(mostRows - 1)
      var probability = 1.0
      let probabilities = proposed.map { _ in
        probability *= speculator.rate
        return probability
      }
      let drafted = cost.usefulRows(probabilities, beside: 1, tokens: 1)
      let accepted = zip(proposed.prefix(drafted), rest).prefix { $0 == $1 }.count
      let made = min(accepted + 1, rest.count)
      let passSeconds = seconds(rows: 1 + drafted)
      cost.record(rows: 1 + drafted, seconds: passSeconds)
      speculator.record(accepted: accepted, of: drafted)
      time.drafting += passSeconds
      time.plain += Double(made) * seconds[0]
      tokens.drafted += drafted
      tokens.accepted += accepted
      text += rest.prefix(made)
      rest = rest.dropFirst(made)
    }
  }
}
