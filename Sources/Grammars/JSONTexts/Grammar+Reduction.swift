extension Grammar {
  /// The same language without symbols that derive nothing or that are never reached, and without symbols that only stand
  /// for one other element; `nil` if the start symbol derives nothing. Terminals are taken to have strings.
  func reduced() -> Grammar? {
    let productive = productiveSymbols()
    guard productive[start.index] else { return nil }
    let kept = rules.map { alternatives in
      alternatives.filter { rule in
        rule.allSatisfy { if case .symbol(let symbol) = $0 { productive[symbol.index] } else { true } }
      }
    }
    var meanings: [Int: Element] = [:]
    /// What a symbol stands for, past symbols with a single rule of a single element.
    func meaning(_ element: Element) -> Element {
      var element = element
      var passed: [Int] = []
      var seen: Set<Int> = []
      while case .symbol(let symbol) = element {
        if let known = meanings[symbol.index] {
          element = known
          break
        }
        guard kept[symbol.index].count == 1, kept[symbol.index][0].count == 1, seen.insert(symbol.index).inserted else {
          break
        }
        passed.append(symbol.index)
        element = kept[symbol.index][0][0]
      }
      for symbol in passed { meanings[symbol] = element }
      return element
    }
    var result = Grammar()
    var numbers: [Int: Symbol] = [:]
    var waiting: [Int] = []
    func translate(_ symbol: Symbol) -> Symbol {
      if let known = numbers[symbol.index] { return known }
      let new = result.addSymbol(names[symbol.index])
      numbers[symbol.index] = new
      waiting.append(symbol.index)
      return new
    }
    var terminalNumbers: [Terminal: Terminal] = [:]
    func translate(_ terminal: Terminal) -> Terminal {
      if let known = terminalNumbers[terminal] { return known }
      let new = result.terminal(terminals[terminal.index])
      terminalNumbers[terminal] = new
      return new
    }
    result.start = translate(start)
    while let index = waiting.popLast() {
      var seen: Set<[Element]> = []
      for rule in kept[index] {
        let translated = rule.map { element -> Element in
          switch meaning(element) {
          case .symbol(let symbol): .symbol(translate(symbol))
          case .terminal(let terminal): .terminal(translate(terminal))
          }
        }
        if seen.insert(translated).inserted, translated != [.symbol(numbers[index]!)] {
          result.addRule(numbers[index]!, translated)
        }
      }
    }
    return result
  }

  /// Whether each symbol derives any string.
  private func productiveSymbols() -> [Bool] {
    let numbered = rules.map { alternatives in
      alternatives.map { rule in
        rule.map { element -> Int32 in
          switch element {
          case .symbol(let symbol): Int32(symbol.index)
          case .terminal(let terminal): ~Int32(terminal.index)
          }
        }
      }
    }
    return ParserRules.closure(numbered) { _ in true }
  }
}
