import Grammars

/// Tells by exhaustive search whether a text is in an expression or grammar, as an oracle.
struct SimpleRecognizer {
  private let text: [UInt8]

  /// - Parameter text: what is recognised
  init(_ text: String) { self.text = Array(text.utf8) }

  /// - Parameter text: what is recognised
  init(bytes text: [UInt8]) { self.text = text }

  /// Whether the whole text is in the expression.
  func matches(_ expression: ByteExpression) -> Bool { ends(of: expression, from: 0).contains(text.count) }

  /// Where the strings of an expression that begin at a position end.
  private func ends(of expression: ByteExpression, from start: Int) -> Set<Int> {
    switch expression {
    case .nothing: return []
    case .empty: return [start]
    case .byte(let set): return start < text.count && set.contains(text[start]) ? [start + 1] : []
    case .sequence(let parts):
      return parts.reduce([start]) { starts, part in
        starts.reduce(into: []) { $0.formUnion(ends(of: part, from: $1)) }
      }
    case .alternatives(let parts): return parts.reduce(into: []) { $0.formUnion(ends(of: $1, from: start)) }
    case .repetition(let part, let minimum, let maximum):
      var current: Set<Int> = [start]
      var result: Set<Int> = minimum == 0 ? [start] : []
      var seen: Set<Set<Int>> = []
      var count = 0
      while !current.isEmpty, maximum.map({ count < $0 }) ?? true {
        if count >= minimum, !seen.insert(current).inserted { break }
        current = current.reduce(into: []) { $0.formUnion(ends(of: part, from: $1)) }
        count += 1
        if count >= minimum { result.formUnion(current) }
      }
      return result
    case .intersection(let parts):
      return parts.reduce(Set(start...text.count)) { $0.intersection(ends(of: $1, from: start)) }
    case .complement(let part): return Set(start...text.count).subtracting(ends(of: part, from: start))
    }
  }

  private struct Item: Hashable {
    let symbol: Grammar.Symbol
    let rule: [Grammar.Element]
    let position: Int
    let origin: Int
  }

  /// Whether the whole text is in the grammar (Earley's algorithm).
  func matches(_ grammar: Grammar) -> Bool {
    var chart = [Set<Item>](repeating: [], count: text.count + 1)
    var endsOf: [Grammar.Terminal: [Int: Set<Int>]] = [:]
    func predict(_ symbol: Grammar.Symbol, at index: Int) -> [Item] {
      grammar.rules(of: symbol).map { Item(symbol: symbol, rule: $0, position: 0, origin: index) }
    }
    func advanced(_ item: Item) -> Item {
      Item(symbol: item.symbol, rule: item.rule, position: item.position + 1, origin: item.origin)
    }
    chart[0] = Set(predict(grammar.start, at: 0))
    for index in 0...text.count {
      var agenda = Array(chart[index])
      var completedEmpty: Set<Grammar.Symbol> = []
      func add(_ item: Item) {
        if chart[index].insert(item).inserted { agenda.append(item) }
      }
      while let item = agenda.popLast() {
        guard item.position < item.rule.count else {
          if item.origin == index { completedEmpty.insert(item.symbol) }
          for waiting in chart[item.origin] where waiting.position < waiting.rule.count {
            if waiting.rule[waiting.position] == .symbol(item.symbol) { add(advanced(waiting)) }
          }
          continue
        }
        switch item.rule[item.position] {
        case .symbol(let symbol):
          for predicted in predict(symbol, at: index) { add(predicted) }
          if completedEmpty.contains(symbol) { add(advanced(item)) }
        case .terminal(let terminal):
          let known = endsOf[terminal]?[index] ?? ends(of: grammar.expression(of: terminal), from: index)
          endsOf[terminal, default: [:]][index] = known
          for end in known {
            if end == index { add(advanced(item)) } else { chart[end].insert(advanced(item)) }
          }
        }
      }
    }
    return chart[text.count].contains {
      $0.symbol == grammar.start && $0.position == $0.rule.count && $0.origin == 0
    }
  }
}
