/// Why tokens are proposed. Each reason has an acceptance rate of its own.
enum DraftReason: Int, CaseIterable {
  /// The last tokens occurred before: 3 or 4, 5 to 8, or more of them.
  case shortMatch, match, longMatch
  /// The grammar allows no other text.
  case grammar

  init(matchLength: Int) {
    self = matchLength < 5 ? .shortMatch : matchLength < 9 ? .match : .longMatch
  }

  /// The rate that is assumed before any token was proposed for this reason.
  fileprivate var initialRate: Double {
    switch self {
    case .shortMatch: 0.5
    case .match: 0.7
    case .longMatch, .grammar: 0.9
    }
  }
}

/// How often a generation's proposed tokens turned out right, where those before them had.
struct AcceptanceRates {
  private struct Counts {
    var proposed = 0.0
    var accepted = 0.0
  }

  /// The initial rate counts as so many tokens.
  private static let initialWeight = 4.0
  /// What is left of the counts at each change, so that the latest text counts most.
  private static let retention = 0.95

  private var counts = [Counts](repeating: Counts(), count: DraftReason.allCases.count)

  /// The expected rate.
  subscript(reason: DraftReason) -> Double {
    let counts = counts[reason.rawValue]
    return (counts.accepted + Self.initialWeight * reason.initialRate) / (counts.proposed + Self.initialWeight)
  }

  /// Counts a draft whose first `accepted` tokens were right. Those after the first wrong one say nothing.
  mutating func record(_ reason: DraftReason, accepted: Int, of proposed: Int) {
    fade(reason)
    counts[reason.rawValue].proposed += Double(min(accepted + 1, proposed))
    counts[reason.rawValue].accepted += Double(accepted)
  }

  /// A draft was not computed. The rate slowly returns to the initial one, so that drafts are tried again.
  mutating func skip(_ reason: DraftReason) { fade(reason) }

  private mutating func fade(_ reason: DraftReason) {
    counts[reason.rawValue].proposed *= Self.retention
    counts[reason.rawValue].accepted *= Self.retention
  }
}
