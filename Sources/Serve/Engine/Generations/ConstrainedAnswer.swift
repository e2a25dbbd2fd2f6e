import Grammars
import Model
import Synchronization

/// How the engine shares the work of grammars between its passes and a thread beside them.
struct GrammarWork: Sendable {
  /// How much work for one answer a pass may wait for while it has other answers. A unit takes up to 0.3 µs.
  static let defaultPatience = 8_000

  var patience: Int
  /// One thread does what takes longer, so that no grammar holds up others' answers.
  private let lanes = LaneTable<ClientIdentity>(WorkerPool(label: "grammars", threads: 1, niceness: 4))

  init(patience: Int) { self.patience = patience }

  /// The client's turn at that thread. Clients take turns, one mask each, so that many answers of one client do not hold up
  /// those of another.
  func worker(for client: ClientIdentity) -> SerialLane { lanes[client] }
}

/// Follows one answer through its grammar: which tokens may come next, and where the answer may end.
///
/// What takes more work than a pass may wait for is done by a worker. Until it is done, the answer has no mask, and gets no
/// token. The engine's thread calls everything but `mask`. Between two calls, one thread at a time may call `mask`.
final class ConstrainedAnswer {
  private var matcher: GrammarMatcher?
  private var allowed: TokenMask
  private let endTokens: [Int32]
  private let patience: Int
  /// `nil` for a copy, which does without a mask that takes long.
  private let worker: SerialLane?
  /// Why the answer cannot be continued.
  private(set) var failure: Failure?
  /// Whether the text is complete, and nothing may follow. Not known while `isBehind`.
  private(set) var isFinished = false
  /// Tokens of the answer that the matcher has not accepted yet.
  private var untaken: [Int32] = []
  /// Whether it is not known yet if nothing may follow the last token.
  private var mayBeFinished = false
  /// What the worker does.
  private var pending: Pending?

  enum Failure {
    /// The grammar's reason.
    case grammar(String)
    /// Only tokens that end the answer continue the text, which is not complete.
    case stopped

    init(_ error: GrammarError) { self = .grammar(error.description) }

    /// What the client is told.
    var error: EngineError {
      switch self {
      case .grammar(let reason): .constraintFailed(reason)
      case .stopped: .constraintStopped
      }
    }
  }

  /// A copy that the worker uses. Only the worker uses it until it is done, and only its owner after that.
  private final class Pending: @unchecked Sendable {
    let answer: ConstrainedAnswer
    let isDone = Atomic<Bool>(false)

    init(_ answer: ConstrainedAnswer) { self.answer = answer }

    func run() {
      answer.findMaskNow()
      isDone.store(true, ordering: .releasing)
    }

    /// - Returns: whether the text is complete
    func settle() -> Bool {
      answer.catchUpNow()
      return answer.isFinished
    }
  }

  /// - Parameters:
  ///   - endTokens: the tokens that end the answer. They are allowed where the text is complete.
  ///   - client: whose answer it is
  init(
    _ grammar: CompiledGrammar, endTokens: Set<Int32>, vocabularySize: Int, work: GrammarWork, client: ClientIdentity
  ) {
    allowed = TokenMask(count: vocabularySize)
    self.endTokens = endTokens.filter { (0..<Int32(vocabularySize)).contains($0) }
    (worker, patience) = (work.worker(for: client), work.patience)
    do throws(GrammarError) { matcher = try GrammarMatcher(grammar) } catch { failure = Failure(error) }
    renewPatience()
  }

  /// Whether a worker finds the mask.
  var isWaiting: Bool { pending != nil }
  /// Whether the matcher has not accepted all tokens.
  var isBehind: Bool { pending != nil || !untaken.isEmpty || mayBeFinished }

  /// Lets the next pass wait for the whole of the answer's work that a pass may wait for.
  func renewPatience() { matcher?.patience = patience }

  /// The tokens that may come next; `nil` if there are none: `failure` then says why, or it `isFinished`, or it `isWaiting`.
  /// - Parameter mayWait: whether the caller may wait for as much work as the grammar's limits allow
  func mask(mayWait: Bool) -> TokenMask? {
    if let pending {
      guard pending.isDone.load(ordering: .acquiring) else { return nil }
      self.pending = nil
      take(pending.answer)
      return failure == nil && !isFinished ? allowed : nil
    }
    guard failure == nil, !isFinished else { return nil }
    if mayWait { matcher?.patience = nil }
    do throws(GrammarError) { try findMask() } catch {
      if error == .unfinished { delegate() } else { failure = Failure(error) }
      return nil
    }
    return failure == nil && !isFinished ? allowed : nil
  }

  /// Lets the worker find the mask.
  private func delegate() {
    guard let worker else { return }
    let pending = Pending(copy())
    self.pending = pending
    // An answer that has ended meanwhile needs no mask.
    worker.async { [weak pending] in pending?.run() }
  }

  private func findMaskNow() {
    matcher?.patience = nil
    do throws(GrammarError) { try findMask() } catch { failure = Failure(error) }
  }

  private func findMask() throws(GrammarError) {
    try catchUp()
    guard failure == nil, !isFinished else { return }
    let canEnd = try allowNext()
    let isStuck = allowed.isEmpty
    for token in endTokens { canEnd ? allowed.insert(token) : allowed.remove(token) }
    if allowed.isEmpty { failure = isStuck ? .grammar("no token of the model continues the text") : .stopped }
  }

  /// Allows the tokens that continue the text.
  /// - Returns: whether the text may end
  private func allowNext() throws(GrammarError) -> Bool {
    guard var matcher else { return false }
    defer { self.matcher = matcher }
    self.matcher = nil
    var failed: GrammarError?
    allowed.words.withUnsafeMutableBufferPointer { words in
      do throws(GrammarError) { try matcher.computeMask(into: words) } catch { failed = error }
    }
    if let failed { throw failed }
    return try matcher.canEnd()
  }

  /// Another follower of the same text, which continues on its own and has no worker.
  func copy() -> ConstrainedAnswer { ConstrainedAnswer(copying: self) }

  private init(copying other: ConstrainedAnswer) {
    (endTokens, patience, worker, allowed) = (other.endTokens, other.patience, nil, other.allowed)
    take(other)
  }

  private func take(_ other: ConstrainedAnswer) {
    (matcher, allowed, failure) = (other.matcher, other.allowed, other.failure)
    (isFinished, untaken, mayBeFinished) = (other.isFinished, other.untaken, other.mayBeFinished)
  }

  /// Tokens of the only text that can come next; none if there are several texts.
  /// - Parameter limit: the maximum tokens
  func forcedTokens(limit: Int) -> [Int32] {
    guard failure == nil, !isBehind else { return [] }
    let bytes = try? matcher?.lookAhead { (ahead) throws(GrammarError) in try ahead.forcedBytes() }
    guard let bytes, let matcher else { return [] }
    return matcher.grammar.vocabulary.tokens(of: bytes, limit: limit)
  }

  /// The first of the tokens, as many as the grammar allows.
  func allowedBeginning(of tokens: [Int32]) -> [Int32] {
    guard failure == nil, !isBehind else { return [] }
    let allowed = try? matcher?.lookAhead { (ahead) throws(GrammarError) in
      tokens.prefix { (try? ahead.accept(token: Int($0))) == true }
    }
    return Array(allowed ?? [])
  }

  /// Records a token of the answer that is no end token.
  func accept(_ token: Int32) {
    untaken.append(token)
    mayBeFinished = true
    do throws(GrammarError) { try catchUp() } catch {
      if error != .unfinished { failure = Failure(error) }
    }
  }

  /// Finds out whether the text is complete, and nothing may follow. If that takes more work than a pass may wait for, a worker
  /// does it.
  /// - Parameter then: called once, by the caller or by the worker
  func settle(then: @escaping @Sendable (_ isFinished: Bool) -> Void) {
    guard failure == nil, isBehind, let worker else { return then(isFinished) }
    let copied = Pending(copy())
    worker.async { then(copied.settle()) }
  }

  private func catchUpNow() {
    matcher?.patience = nil
    do throws(GrammarError) { try catchUp() } catch { failure = Failure(error) }
  }

  private func catchUp() throws(GrammarError) {
    while let token = untaken.first {
      let isAccepted = try matcher?.accept(token: Int(token)) ?? false
      untaken.removeFirst()
      if !isAccepted { failure = .grammar("the token \(token) may not come here") }
      if failure != nil { return }
    }
    if mayBeFinished { isFinished = try matcher?.isFinished() ?? false }
    mayBeFinished = false
  }
}
