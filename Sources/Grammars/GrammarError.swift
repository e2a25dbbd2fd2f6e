/// Why a grammar cannot be used, or why a text under a grammar cannot continue.
public enum GrammarError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The grammar has no symbol, or its start is none of its symbols.
  case noStart
  /// The start symbol derives no text at all.
  case derivesNothing(symbol: String)
  /// The grammar is larger than `GrammarLimits` allows. `what` says what there are too many of.
  case tooLarge(what: String, limit: Int)
  /// Compiling the grammar takes more work than `GrammarLimits.work`.
  case tooMuchWorkToCompile(limit: Int)
  /// One token of a text needs more work than `GrammarLimits.tokenWork`.
  case tooMuchWork(limit: Int)
  /// The tokens of one text need more work than `GrammarLimits.textWork`.
  case tooMuchWorkForText(limit: Int)
  /// An operation needs more work than the matcher's `patience`. What it found is kept, so that another try needs less.
  case unfinished
  /// The states of one text need more memory than `GrammarLimits.memory`.
  case tooMuchMemory(limit: Int)

  public var description: String {
    switch self {
    case .noStart: "the grammar has no start symbol"
    case .derivesNothing(let symbol): "the grammar's start symbol \"\(symbol)\" derives no text"
    case .tooLarge(let what, let limit): "the grammar has more than \(limit) \(what)"
    case .tooMuchWorkToCompile(let limit): "the grammar needs more than \(limit) units of work to be compiled"
    case .tooMuchWork(let limit): "the grammar needs more than \(limit) units of work for one token"
    case .tooMuchWorkForText(let limit): "the grammar needs more than \(limit) units of work for one text"
    case .unfinished: "the grammar needs more work than this call may take"
    case .tooMuchMemory(let limit): "the grammar needs more than \(limit) bytes for one text"
    }
  }
}

/// What a grammar may cost.
public struct GrammarLimits: Hashable, Sendable {
  /// How many elements the rules of a grammar may have, empty right-hand sides counted as one.
  public var elements = 1_000_000
  /// How many nodes the expressions of a grammar may have when it is compiled.
  public var expressions = 2_000_000
  /// How deeply the expressions may be nested.
  public var depth = 400
  /// How much work compiling the grammar may take. A unit is one node of an expression or one item of a parser's state, and takes
  /// about 50 ns and at most 100 bytes.
  public var work = 4_000_000
  /// How much work the operations of a matcher between two tokens may take together: what other texts have not left in memory of
  /// the mask, of the acceptance of the token and of whether the text may end. It bounds how long one text can hold up others.
  public var tokenWork = 400_000
  /// How much work the tokens of one text may take together.
  public var textWork = 20_000_000
  /// How many bytes the states and masks that the matchers of a grammar share may take. Reaching it costs time, since the states
  /// are made again; it is an error only if one text needs more than half of it, or twice a token's work to be read again.
  public var memory = 32 << 20

  /// The default limits.
  public init() {}
}
