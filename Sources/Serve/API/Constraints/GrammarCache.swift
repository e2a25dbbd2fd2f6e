import Formats
import Grammars
import Synchronization
import Tokenization

/// The compiled grammars of recent requests, so that a program that sends the same schema with each request has it compiled
/// once. Used from the threads that prepare requests.
///
/// The grammars in use and those that are kept share one limit of memory, `maximumMemory`. Above it, the grammars that were used
/// longest ago are dropped. Where the grammars of running requests alone are above it, new ones are refused.
final class GrammarCache: Sendable {
  private struct Entry {
    let compiled: CompiledConstraint
    let keySize: Int
    var lastUse: UInt64
  }

  private struct State {
    var entries: [GrammarKey: Entry] = [:]
    var uses: UInt64 = 0

    /// Drops the grammar that was used longest ago.
    mutating func dropOldest() {
      guard let oldest = entries.min(by: { $0.value.lastUse < $1.value.lastUse }) else { return }
      entries[oldest.key] = nil
    }

    /// The memory of the entries' keys.
    var keyMemory: Int { entries.values.reduce(0) { $0 + $1.keySize } }
  }

  /// The largest number of grammars that are kept.
  private static let capacity = 256
  /// The largest number of bytes of all grammars together.
  private static let maximumMemory = 512 << 20
  private let memory: GrammarMemory
  private let state = Mutex(State())
  private let builtVocabulary = Mutex<TokenVocabulary?>(nil)
  private let tokenizer: Tokenizer

  /// - Parameter maximumMemory: bytes of all grammars together
  init(_ tokenizer: Tokenizer, maximumMemory: Int = GrammarCache.maximumMemory) {
    self.tokenizer = tokenizer
    memory = GrammarMemory(limit: maximumMemory)
  }

  /// The grammar of a constraint, compiled now if it is not known.
  /// - Parameter param: the field that gives the constraint
  /// - Throws: `APIError`: 400, that names the field and what cannot be followed, or 503 if the grammars of running requests take
  ///   all memory
  func compiled(_ constraint: some AnswerConstraint, param: String) throws(APIError) -> CompiledConstraint {
    let key = constraint.key
    let known = state.withLock { state -> CompiledConstraint? in
      state.uses += 1
      state.entries[key]?.lastUse = state.uses
      return state.entries[key]?.compiled
    }
    if let known { return known }
    makeRoom(reserving: 0)
    guard !memory.isFull else {
      var error = APIError.plain(
        status: 503, message: "The grammars of running requests take more than \(memory.limit) bytes; try again later")
      error.waitsForOthers = true
      throw error
    }
    let compiled: CompiledConstraint
    do throws(ConstraintError) { compiled = try compile(constraint) } catch {
      let param = error.param ?? param
      throw .invalid("'\(param)' cannot be followed: \(error.reason)", param: param, code: "invalid_value")
    }
    let size = constraint.size
    makeRoom(reserving: size)
    state.withLock { state in
      state.entries[key] = Entry(compiled: compiled, keySize: size, lastUse: state.uses)
    }
    return compiled
  }

  /// Drops grammars until the others, and as many bytes as are reserved, are within the limits.
  private func makeRoom(reserving size: Int) {
    state.withLock { state in
      while !state.entries.isEmpty,
        state.entries.count >= Self.capacity || memory.used + state.keyMemory + size > memory.limit
      { state.dropOldest() }
    }
  }

  private func compile(_ constraint: some AnswerConstraint) throws(ConstraintError) -> CompiledConstraint {
    var warnings: [String] = []
    let grammar = try constraint.grammar(CompilationBudget(), warnings: &warnings)
    do throws(GrammarError) {
      let compiled = try CompiledGrammar(grammar, vocabulary: vocabulary(), pool: memory)
      return CompiledConstraint(grammar: compiled, warnings: warnings)
    } catch { throw ConstraintError(reason: error.description) }
  }

  /// The tokenizer's tokens, sorted into trees at first use.
  private func vocabulary() -> TokenVocabulary {
    builtVocabulary.withLock { built in
      let vocabulary = built ?? TokenVocabulary(tokenizer)
      built = vocabulary
      return vocabulary
    }
  }
}

/// The grammar of a constraint.
struct CompiledConstraint: Sendable {
  let grammar: CompiledGrammar
  /// A sentence for each part of the request that answers are not held to.
  let warnings: [String]
}

/// What a request says an answer must be. Equal constraints have the same grammar.
protocol AnswerConstraint: Hashable, Sendable {
  var key: GrammarKey { get }
  /// About how many bytes the key takes.
  var size: Int { get }
  /// The grammar of the answers.
  /// - Parameter warnings: gets a sentence for each part of the request that answers are not held to
  /// - Throws: `ConstraintError` that names what cannot be followed, or says that the budget does not suffice
  func grammar(_ budget: CompilationBudget, warnings: inout [String]) throws(ConstraintError) -> Grammar
}

/// What decides a compiled grammar.
enum GrammarKey: Hashable, Sendable {
  case text(TextConstraint)
  case tools(ToolConstraint)
}
