import Grammars
import Model

/// Follows one answer through its grammar: which tokens may come next, and where the answer may end.
///
/// The engine's thread calls `accept`. Between two calls, one thread at a time may call `mask`.
final class ConstrainedAnswer {
  private var matcher: GrammarMatcher?
  private var allowed: TokenMask
  private let endTokens: [Int32]
  /// Why the answer cannot be continued.
  private(set) var failure: String?
  /// Whether the text is complete, and nothing may follow.
  private(set) var isFinished = false

  /// - Parameter endTokens: the tokens that end the answer. They are allowed where the text is complete.
  init(_ grammar: CompiledGrammar, endTokens: Set<Int32>, vocabularySize: Int) {
    allowed = TokenMask(count: vocabularySize)
    self.endTokens = endTokens.filter { (0..<Int32(vocabularySize)).contains($0) }
    do throws(GrammarError) { matcher = try GrammarMatcher(grammar) } catch { failure = error.description }
  }

  /// The tokens that may come next; `nil` if there are none, and `failure` then says why.
  func mask() -> TokenMask? {
    guard failure == nil else { return nil }
    do throws(GrammarError) {
      let canEnd = try allowNext()
      for token in endTokens { canEnd ? allowed.insert(token) : allowed.remove(token) }
    } catch {
      failure = error.description
      return nil
    }
    if !allowed.isEmpty { return allowed }
    failure = "no token of the model continues the text"
    return nil
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

  /// Another follower of the same text, which continues on its own.
  func copy() -> ConstrainedAnswer { ConstrainedAnswer(copying: self) }

  private init(copying other: ConstrainedAnswer) {
    matcher = other.matcher
    allowed = other.allowed
    endTokens = other.endTokens
    failure = other.failure
    isFinished = other.isFinished
  }

  /// Tokens of the only text that can come next; none if there are several texts.
  /// - Parameter limit: the maximum tokens
  func forcedTokens(limit: Int) -> [Int32] {
    guard failure == nil, var matcher = matcher?.forDrafts(), let bytes = try? matcher.forcedBytes() else { return [] }
    return matcher.grammar.vocabulary.tokens(of: bytes, limit: limit)
  }

  /// The first of the tokens, as many as the grammar allows.
  func allowedBeginning(of tokens: [Int32]) -> [Int32] {
    guard failure == nil, var matcher = matcher?.forDrafts() else { return [] }
    return Array(tokens.prefix { (try? matcher.accept(token: Int($0))) == true })
  }

  /// Records a token of the answer that is no end token.
  func accept(_ token: Int32) {
    do throws(GrammarError) {
      guard try matcher?.accept(token: Int(token)) == true else {
        failure = "the token \(token) may not come here"
        return
      }
      isFinished = try matcher?.isFinished() ?? false
    } catch { failure = error.description }
  }
}
