/// A context-free grammar whose terminals are regular expressions over bytes.
///
/// A grammar stands for a set of byte strings: those that the start symbol derives when each terminal is replaced by any
/// string of its expression. There is no longest match: every way to divide a text into terminals counts.
public struct Grammar: Hashable, Sendable {
  /// A nonterminal symbol, by its position in `names`.
  public struct Symbol: Hashable, Sendable {
    let index: Int
  }

  /// A terminal, by its position in `terminals`.
  public struct Terminal: Hashable, Sendable {
    let index: Int
  }

  /// What the right-hand side of a rule is made of.
  public enum Element: Hashable, Sendable {
    /// What a symbol derives.
    case symbol(Symbol)
    /// A string of a terminal.
    case terminal(Terminal)
  }

  /// The names of the symbols, for messages.
  public private(set) var names: [String] = []
  /// The rules of each symbol: the right-hand sides, any of which may be taken.
  public private(set) var rules: [[[Element]]] = []
  /// The expressions of the terminals; equal expressions are one terminal.
  public private(set) var terminals: [ByteExpression] = []
  /// The symbol that derives the whole text.
  public var start = Symbol(index: 0)
  private var terminalIndex: [ByteExpression: Int] = [:]

  /// A grammar without symbols.
  public init() {}

  /// A new symbol without rules.
  public mutating func addSymbol(_ name: String) -> Symbol {
    names.append(name)
    rules.append([])
    return Symbol(index: names.count - 1)
  }

  /// The terminal of an expression.
  public mutating func terminal(_ expression: ByteExpression) -> Terminal {
    if let index = terminalIndex[expression] { return Terminal(index: index) }
    terminalIndex[expression] = terminals.count
    terminals.append(expression)
    return Terminal(index: terminals.count - 1)
  }

  /// Lets a symbol derive a sequence of elements, beside what it derives already. An empty sequence is the empty string.
  public mutating func addRule(_ symbol: Symbol, _ elements: [Element]) {
    rules[symbol.index].append(elements)
  }
}

extension Grammar {
  /// The right-hand sides of a symbol's rules.
  public func rules(of symbol: Symbol) -> [[Element]] { rules[symbol.index] }

  /// The expression of a terminal.
  public func expression(of terminal: Terminal) -> ByteExpression { terminals[terminal.index] }
}
