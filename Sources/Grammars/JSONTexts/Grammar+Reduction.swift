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
    /// What a symbol stands for, past symbols with a single rule of a single element.
    func meaning(_ element: Element) -> Element {
      var element = element
      var seen: Set<Int> = []
      while case .symbol(let symbol) = element, kept[symbol.index].count == 1, kept[symbol.index][0].count == 1,
        seen.insert(symbol.index).inserted
      { element = kept[symbol.index][0][0] }
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
    result.start = translate(start)
    while let index = waiting.popLast() {
      var seen: Set<[Element]> = []
      for rule in kept[index] {
        let translated = rule.map { element -> Element in
          switch meaning(element) {
          case .symbol(let symbol): .symbol(translate(symbol))
          case .terminal(let terminal): .terminal(result.terminal(terminals[terminal.index]))
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
    var productive = [Bool](repeating: false, count: rules.count)
    // For each rule the number of symbols that are not known to be productive, and where each symbol is used.
    var missing: [Int] = []
    var owner: [Int] = []
    var uses = [[Int]](repeating: [], count: rules.count)
    var waiting: [Int] = []
    for (symbol, alternatives) in rules.enumerated() {
      for rule in alternatives {
        let parts = rule.compactMap { if case .symbol(let symbol) = $0 { symbol.index } else { nil } }
        for part in parts { uses[part].append(missing.count) }
        missing.append(parts.count)
        owner.append(symbol)
        if parts.isEmpty { waiting.append(symbol) }
      }
    }
    while let symbol = waiting.popLast() {
      guard !productive[symbol] else { continue }
      productive[symbol] = true
      for rule in uses[symbol] {
        missing[rule] -= 1
        if missing[rule] == 0 { waiting.append(owner[rule]) }
      }
    }
    return productive
  }
}
