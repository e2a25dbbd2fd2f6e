import Formats
import Grammars
import Synchronization
import Tokenization

/// The compiled grammars of recent requests, so that a program that sends the same schema with each request has it compiled
/// once. Used from the threads that prepare requests.
final class GrammarCache: Sendable {
  private struct Entry {
    let grammar: CompiledGrammar
    var lastUse: UInt64
  }

  private struct State {
    var entries: [GrammarKey: Entry] = [:]
    var uses: UInt64 = 0
  }

  private static let capacity = 64
  private let state = Mutex(State())
  private let builtVocabulary = Mutex<TokenVocabulary?>(nil)
  private let tokenizer: Tokenizer

  init(_ tokenizer: Tokenizer) { self.tokenizer = tokenizer }

  /// The compiled grammar of a constraint, compiled now if it is not known.
  /// - Parameter param: the field that gives the constraint
  /// - Throws: `APIError`, 400, that names the field and what cannot be followed
  func compiled(_ constraint: some AnswerConstraint, param: String) throws(APIError) -> CompiledGrammar {
    do throws(ConstraintError) { return try compiled(constraint) } catch {
      throw .invalid("'\(param)' cannot be followed: \(error.reason)", param: param, code: "invalid_value")
    }
  }

  private func compiled(_ constraint: some AnswerConstraint) throws(ConstraintError) -> CompiledGrammar {
    let key = constraint.key
    let known = state.withLock { state -> CompiledGrammar? in
      state.uses += 1
      state.entries[key]?.lastUse = state.uses
      return state.entries[key]?.grammar
    }
    if let known { return known }
    let grammar = try constraint.grammar()
    let compiled: CompiledGrammar
    do throws(GrammarError) { compiled = try CompiledGrammar(grammar, vocabulary: vocabulary()) } catch {
      throw ConstraintError(reason: error.description)
    }
    state.withLock { state in
      if state.entries.count >= Self.capacity,
        let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse })
      {
        state.entries[oldest.key] = nil
      }
      state.entries[key] = Entry(grammar: compiled, lastUse: state.uses)
    }
    return compiled
  }

  /// The tokenizer's tokens as bytes, sorted into a tree at first use. Special tokens have no text of their own.
  private func vocabulary() -> TokenVocabulary {
    builtVocabulary.withLock { built in
      if let built { return built }
      let tokens = (0..<Int32(tokenizer.vocabularySize)).map { id -> [UInt8]? in
        tokenizer.isSpecial(id) ? nil : tokenizer.tokenBytes(id)
      }
      let vocabulary = TokenVocabulary(tokens: tokens, endTokens: [])
      built = vocabulary
      return vocabulary
    }
  }
}

/// What a request says an answer must be. Equal constraints have the same grammar.
protocol AnswerConstraint: Hashable, Sendable {
  var key: GrammarKey { get }
  /// The grammar of the answers.
  /// - Throws: `ConstraintError` that names what cannot be followed
  func grammar() throws(ConstraintError) -> Grammar
}

/// What decides a compiled grammar.
enum GrammarKey: Hashable, Sendable {
  case text(TextConstraint)
  case tools(ToolConstraint)
}
