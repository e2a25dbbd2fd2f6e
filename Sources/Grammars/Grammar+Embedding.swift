extension Grammar {
  /// Adds the symbols, rules and terminals of another grammar.
  /// - Returns: the symbol that derives what the other grammar derives
  /// - Throws: if the budget does not suffice
  public mutating func embed(_ other: Grammar, budget: CompilationBudget) throws(GrammarError) -> Symbol {
    do throws(CompilationBudget.Exceeded) {
      let elements = other.rules.reduce(0) { $0 + $1.reduce(1) { $0 + $1.count + 1 } }
      try budget.spend(other.terminals.reduce(elements) { $0 + $1.size })
    } catch { throw .tooLarge(what: "units of work to make", limit: error.limit) }
    let offset = names.count
    for name in other.names { _ = addSymbol(name) }
    let terminals = other.terminals.map { terminal($0) }
    for (index, alternatives) in other.rules.enumerated() {
      for elements in alternatives {
        addRule(
          Symbol(index: index + offset),
          elements.map { element in
            switch element {
            case .symbol(let symbol): .symbol(Symbol(index: symbol.index + offset))
            case .terminal(let terminal): .terminal(terminals[terminal.index])
            }
          })
      }
    }
    return Symbol(index: other.start.index + offset)
  }
}
