import Synchronization

/// The progress of one text under a grammar.
///
/// A matcher is a value: a copy continues on its own, and shares only the limit of work for the text. A matcher remembers the state
/// after each token, so that tokens can be taken back.
/// All methods may throw that the token or the text needs too much work or memory, after which the text is as it was before the
/// call; it cannot continue then, since a mask that is not exact is never given. What other matchers of the grammar do is not
/// counted.
public struct GrammarMatcher: Sendable {
  /// The grammar.
  public let grammar: CompiledGrammar
  /// The bytes of the text so far.
  public private(set) var bytes: [UInt8] = []
  /// Whether a token that ends the text was accepted.
  public private(set) var hasEnded = false
  /// For each accepted token, and before the first: the state and the length of the text.
  private var history: [(state: Int32, length: Int)] = []
  /// The value of `SharedStates.epoch` in which the history's states were found.
  private(set) var epoch = -1
  /// The work of the operations since the last token, which is the one at `workPosition`.
  private var tokenWork = 0
  private var workPosition = 0
  /// The work of all operations on the text, those of copies included.
  private var textWork = TextWork()
  /// How much more work the operations may take before they throw `GrammarError.unfinished`, which changes nothing; `nil` for what
  /// the grammar's limits allow. Each operation takes what it used from it. With patience, an operation neither waits
  /// for one without that runs at the same time, nor throws states away.
  public var patience: Int?
  /// What drafts of the text have cost. It has a limit of its own, so that drafts never end a text.
  private let draftWork = TextWork()

  private final class TextWork: Sendable {
    let units = Atomic<Int>(0)
  }

  /// A matcher before the text.
  public init(_ grammar: CompiledGrammar) throws(GrammarError) {
    self.grammar = grammar
    // The state is found by the first operation.
    history = [(0, 0)]
  }

  /// How many tokens have been accepted. Bytes accepted by one call of `accept(bytes:)` count as a token.
  public var tokenCount: Int { history.count - 1 }

  /// Appends a token if the text with it can become a member of the grammar's language.
  ///
  /// A token that ends the text is accepted if the text is a member; no token is accepted after it.
  /// - Returns: whether the token was accepted; if not, nothing changes
  public mutating func accept(token: Int) throws(GrammarError) -> Bool {
    let vocabulary = grammar.vocabulary
    if hasEnded || token < 0 || token >= vocabulary.count { return false }
    if vocabulary.endTokens.contains(token) {
      guard try canEnd() else { return false }
      hasEnded = true
      history.append(history[history.count - 1])
      return true
    }
    let bytes = vocabulary.tokens[token]
    return bytes.isEmpty ? false : try accept(bytes: bytes)
  }

  /// Appends bytes, if the text with them can become a member of the grammar's language.
  public mutating func accept(bytes added: some Collection<UInt8>) throws(GrammarError) -> Bool {
    if hasEnded { return false }
    let state = try withAutomaton { (automaton, state) throws(GrammarError) in
      var state = state
      for byte in added where state != TextAutomaton.dead { state = try automaton.next(state, byte: byte) }
      return state
    }
    if state == TextAutomaton.dead { return false }
    bytes.append(contentsOf: added)
    history.append((state, bytes.count))
    return true
  }

  /// A copy to look ahead with. Its work counts apart from the text's own.
  func forDrafts() -> GrammarMatcher {
    var copy = self
    copy.textWork = draftWork
    return copy
  }

  /// Looks ahead with a copy, whose work counts apart from the text's own. The text stays as it is.
  ///
  /// Where the grammar has thrown its states away, the copy reads the text again. The text keeps the states that this finds, so
  /// that its next operation does not read the text once more.
  /// - Parameter body: accepts tokens and takes back no more than it has accepted
  public mutating func lookAhead<Result>(
    _ body: (inout GrammarMatcher) throws(GrammarError) -> Result
  ) throws(GrammarError) -> Result {
    var copy = forDrafts()
    defer {
      patience = copy.patience
      if copy.epoch != epoch, copy.history.count >= history.count {
        history = Array(copy.history.prefix(history.count))
        epoch = copy.epoch
      }
    }
    return try body(&copy)
  }

  /// Takes tokens back until `count` are left.
  public mutating func truncate(toTokens count: Int) {
    precondition(count >= 0 && count <= tokenCount, "a matcher is truncated to a number of tokens that it has")
    if count < tokenCount { hasEnded = false }
    history.removeLast(tokenCount - count)
    bytes.removeLast(bytes.count - history[count].length)
  }

  /// Whether the text is a member of the grammar's language, so that it may end.
  public mutating func canEnd() throws(GrammarError) -> Bool {
    try withAutomaton { (automaton, state) throws(GrammarError) in automaton.canEnd(state) }
  }

  /// Whether nothing may follow but the end.
  public mutating func isFinished() throws(GrammarError) -> Bool {
    if hasEnded { return true }
    return try withAutomaton { (automaton, state) throws(GrammarError) in
      guard automaton.canEnd(state) else { return false }
      for byteClass in 0..<automaton.classCount where try automaton.next(state, byteClass) != TextAutomaton.dead {
        return false
      }
      return true
    }
  }

  /// The bytes that every continuation of the text begins with, at most `limit`. None if the text may end here.
  public mutating func forcedBytes(limit: Int = 256) throws(GrammarError) -> [UInt8] {
    if hasEnded { return [] }
    return try withAutomaton { (automaton, state) throws(GrammarError) in
      var state = state
      var result: [UInt8] = []
      while result.count < limit, !automaton.canEnd(state), let byte = try automaton.onlyByte(state) {
        result.append(byte)
        state = try automaton.next(state, byte: byte)
      }
      return result
    }
  }

  /// Writes which tokens may come next: bit `id % 32` of word `id / 32`.
  ///
  /// A token with bytes is allowed exactly if `accept` would accept it, a token that ends the text if the text may end.
  /// - Parameter mask: `TokenVocabulary.maskWords` words; what was in them is overwritten
  public mutating func computeMask(into mask: UnsafeMutableBufferPointer<UInt32>) throws(GrammarError) {
    let vocabulary = grammar.vocabulary
    precondition(mask.count == vocabulary.maskWords, "a mask has a bit for each token")
    if hasEnded { return mask.update(repeating: 0) }
    try withAutomaton { (automaton, state) throws(GrammarError) in
      try automaton.allowTokens(of: vocabulary, after: state, in: mask)
      if automaton.canEnd(state) {
        for token in vocabulary.endTokens { mask[token >> 5] |= 1 << UInt32(token & 31) }
      }
    }
  }

  /// Runs an operation on the shared automaton and the text's state in it, with what work the current token and the text have left.
  private mutating func withAutomaton<Result>(
    _ body: (inout TextAutomaton, Int32) throws(GrammarError) -> Result
  ) throws(GrammarError) -> Result {
    let limits = grammar.limits
    if workPosition != tokenCount { (workPosition, tokenWork) = (tokenCount, 0) }
    let ofText = limits.textWork - textWork.units.load(ordering: .relaxed)
    let ofToken = limits.tokenWork - tokenWork
    let allowed = min(ofText, ofToken, patience ?? .max)
    let found = grammar.withStates(waiting: patience == nil) { [self] shared in run(body, on: &shared, work: allowed) }
    guard let outcome = found else { throw .unfinished }
    if let patience { self.patience = max(patience - outcome.work - outcome.replay.work, 0) }
    tokenWork += outcome.work
    textWork.units.add(outcome.work, ordering: .relaxed)
    if let replayed = outcome.replay.history {
      history = replayed
      epoch = outcome.epoch
    }
    switch outcome.result {
    case .success(let result): return result
    case .failure(.tooMuchWork):
      if allowed < min(ofText, ofToken) || outcome.replay.work > 0, patience != nil { throw .unfinished }
      throw ofText < ofToken ? .tooMuchWorkForText(limit: limits.textWork) : .tooMuchWork(limit: limits.tokenWork)
    case .failure(let error): throw error
    }
  }

  /// What an operation under the lock gives.
  private struct Outcome<Result> {
    var result: Swift.Result<Result, GrammarError>
    /// Whether and how the text was read again before it.
    var replay: Replay
    var epoch: Int
    var work: Int
  }

  private struct Replay {
    /// The history in the current epoch; `nil` if it was not made again.
    var history: [(state: Int32, length: Int)]?
    /// What it took to make the history again.
    var work = 0
  }

  /// Runs an operation under the lock. If the grammar has thrown its states away, the text is read again first.
  /// - Parameter allowed: how much work the operation may take
  private func run<Result>(
    _ body: (inout TextAutomaton, Int32) throws(GrammarError) -> Result, on shared: inout CompiledGrammar.SharedStates,
    work allowed: Int
  ) -> Outcome<Result> {
    var replay = Replay()
    var work = 0
    let result = Swift.Result { () throws(GrammarError) in
      if shared.textMemory > grammar.memoryLimit(replayed: shared.replayedMemory) {
        // To give the memory of many states back takes long.
        if patience != nil { throw .unfinished }
        shared.reset()
      }
      if epoch != shared.epoch { try self.replay(on: &shared, to: &replay) }
      let state = (replay.history ?? history)[history.count - 1].state
      shared.automaton.allow(work: patience.map { min(allowed, $0 - replay.work) } ?? allowed)
      defer { work = shared.automaton.work }
      return try body(&shared.automaton, state)
    }
    return Outcome(result: result, replay: replay, epoch: shared.epoch, work: work)
  }

  /// Finds the text's states again, within limits of work and memory.
  private func replay(on shared: inout CompiledGrammar.SharedStates, to found: inout Replay) throws(GrammarError) {
    let limits = grammar.limits
    let before = shared.textMemory
    let allowed = min(2 * limits.tokenWork, patience ?? .max)
    shared.automaton.allow(work: allowed)
    defer { found.work = shared.automaton.work }
    do throws(GrammarError) { found.history = try replay(&shared.automaton) } catch {
      throw allowed < 2 * limits.tokenWork ? .unfinished : .tooMuchMemory(limit: limits.memory / 2)
    }
    // Other texts' states do not count against this one.
    if shared.textMemory - before > limits.memory / 2 { throw .tooMuchMemory(limit: limits.memory / 2) }
    shared.replayedMemory = shared.textMemory
  }

  /// The states of the text's tokens in an automaton that has thrown its states away.
  private func replay(_ automaton: inout TextAutomaton) throws(GrammarError) -> [(state: Int32, length: Int)] {
    var state = try automaton.initialState()
    var result: [(state: Int32, length: Int)] = []
    var length = 0
    for entry in history {
      for byte in bytes[length..<entry.length] { state = try automaton.next(state, byte: byte) }
      length = entry.length
      result.append((state, length))
    }
    return result
  }
}
