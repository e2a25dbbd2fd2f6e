import Synchronization

/// A grammar ready to constrain texts of one vocabulary.
///
/// It is made once and used by any number of matchers at the same time. The states that texts have needed are kept in it, so that
/// further texts find them; a lock guards them. Matchers of different grammars do not wait for one another.
public final class CompiledGrammar: Sendable {
  /// The tokens that masks are about.
  public let vocabulary: TokenVocabulary
  /// What compiling and matching may cost.
  public let limits: GrammarLimits
  private let shared: Mutex<SharedStates>

  /// - Throws: if the grammar derives no text, is larger than the limits, or takes too much work
  public init(
    _ grammar: Grammar, vocabulary: TokenVocabulary, limits: GrammarLimits = GrammarLimits()
  ) throws(GrammarError) {
    self.vocabulary = vocabulary
    self.limits = limits
    var expressions = ExpressionTable(limits: limits)
    let rules = try ParserRules(grammar, &expressions, limits: limits)
    if expressions.count > limits.expressions {
      throw .tooLarge(what: "nodes in expressions", limit: limits.expressions)
    }
    expressions.work = 0
    let start = TextAutomaton.Start(lexer: LexerAutomaton(expressions), rules: rules)
    var automaton = TextAutomaton(start)
    _ = try automaton.initialState()
    shared = Mutex(SharedStates(automaton: automaton, epoch: 0, baseMemory: automaton.memory))
  }

  /// The states that the matchers share.
  struct SharedStates {
    var automaton: TextAutomaton
    /// How often the states have been thrown away.
    var epoch: Int
    /// The memory of an automaton that no text has used.
    var baseMemory: Int
  }

  /// Runs an operation on the shared states, under their lock.
  func withStates<Result>(
    _ body: (inout SharedStates) throws(GrammarError) -> Result
  ) throws(GrammarError) -> Result {
    let result = shared.withLock { states -> Swift.Result<Result, GrammarError> in
      states.automaton.lexer.expressions.work = 0
      do throws(GrammarError) {
        return .success(try body(&states))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
