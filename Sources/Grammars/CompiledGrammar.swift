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
  private let pool: GrammarMemory?
  private let counted = Atomic<Int>(0)
  /// How many operations without patience run or wait.
  private let waiting = Atomic<Int>(0)

  /// - Parameter pool: counts the memory of this grammar among that of others
  /// - Throws: if the grammar derives no text, is larger than the limits, or takes too much work
  public init(
    _ grammar: Grammar, vocabulary: TokenVocabulary, limits: GrammarLimits = GrammarLimits(), pool: GrammarMemory? = nil
  ) throws(GrammarError) {
    self.vocabulary = vocabulary
    self.limits = limits
    self.pool = pool
    var automaton: TextAutomaton
    do throws(GrammarError) {
      var expressions = ExpressionTable(limits: limits)
      let rules = try ParserRules(grammar, &expressions, limits: limits)
      if expressions.count > limits.expressions {
        throw .tooLarge(what: "nodes in expressions", limit: limits.expressions)
      }
      automaton = TextAutomaton(TextAutomaton.Start(lexer: LexerAutomaton(expressions), rules: rules))
      _ = try automaton.initialState()
    } catch {
      if case .tooMuchWork(let limit) = error { throw .tooMuchWorkToCompile(limit: limit) }
      throw error
    }
    // The automaton keeps what it began with, for when its states are thrown away.
    let base = 2 * automaton.memory
    shared = Mutex(SharedStates(automaton: automaton, epoch: 0, baseMemory: automaton.memory))
    counted.store(base, ordering: .relaxed)
    pool?.add(base)
  }

  deinit { pool?.add(-memory) }

  /// About how many bytes the grammar takes at the moment.
  public var memory: Int { counted.load(ordering: .relaxed) }

  /// The states that the matchers share.
  struct SharedStates {
    var automaton: TextAutomaton
    /// How often the states have been thrown away.
    var epoch: Int
    /// The memory of the texts' states after the last replay of a text.
    var replayedMemory = 0
    /// The memory of an automaton that no text has used.
    let baseMemory: Int

    /// The memory that texts made the automaton use.
    var textMemory: Int { automaton.memory - baseMemory }

    /// Throws the states away.
    mutating func reset() {
      automaton = TextAutomaton(automaton.start)
      epoch += 1
      replayedMemory = 0
    }
  }

  /// How many bytes the states of texts may take now. Where other grammars need much, these take less, but twice as much as
  /// a text's replay left: otherwise each operation would throw away what the one before made again.
  func memoryLimit(replayed: Int) -> Int {
    pool?.isFull == true ? min(max(limits.memory / 8, 2 * replayed), limits.memory) : limits.memory
  }

  /// Runs an operation on the shared states, under their lock.
  func withStates<Result>(_ body: (inout SharedStates) -> Result) -> Result {
    waiting.add(1, ordering: .relaxed)
    defer { waiting.subtract(1, ordering: .relaxed) }
    return shared.withLock { states in
      let result = body(&states)
      count(states)
      return result
    }
  }

  /// The same, which may not wait for an operation that takes long.
  /// - Parameter mayWait: whether it may all the same
  /// - Returns: `nil` if it would have to
  func withStates<Result>(waiting mayWait: Bool, _ body: (inout SharedStates) -> Result) -> Result? {
    if mayWait { return withStates(body) }
    let found = shared.withLockIfAvailable { states in
      let result = body(&states)
      count(states)
      return result
    }
    if let found { return found }
    guard waiting.load(ordering: .relaxed) == 0 else { return nil }
    return shared.withLock { states in
      let result = body(&states)
      count(states)
      return result
    }
  }

  /// Counts the memory of the states.
  private func count(_ states: SharedStates) {
    let now = states.automaton.memory + states.baseMemory
    let added = now - counted.exchange(now, ordering: .relaxed)
    pool?.add(added)
  }
}
