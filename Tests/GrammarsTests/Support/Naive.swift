@testable import Grammars

/// Membership by definition: which substrings an expression or a symbol stands for, computed without automata.
///
/// A text is a list of bytes. For each start the results are the ends of the substrings that match.
struct NaiveLanguage {
  let text: [UInt8]

  /// Where the strings of an expression that begin at `start` end.
  func ends(_ expression: ByteExpression, from start: Int) -> Set<Int> {
    switch expression {
    case .nothing: return []
    case .empty: return [start]
    case .byte(let set): return start < text.count && set.contains(text[start]) ? [start + 1] : []
    case .sequence(let parts):
      return parts.reduce(into: [start]) { starts, part in
        starts = starts.reduce(into: []) { $0.formUnion(ends(part, from: $1)) }
      }
    case .alternatives(let members):
      return members.reduce(into: []) { $0.formUnion(ends($1, from: start)) }
    case .repetition(let body, let minimum, let maximum):
      var result: Set<Int> = minimum == 0 ? [start] : []
      var current: Set<Int> = [start]
      // More rounds than the text has bytes add nothing new, once the minimum is reached.
      var round = 0
      while round < min(maximum ?? .max, minimum + text.count + 1), !current.isEmpty {
        current = current.reduce(into: []) { $0.formUnion(ends(body, from: $1)) }
        round += 1
        if round >= minimum { result.formUnion(current) }
      }
      return result
    case .intersection(let members):
      return members.reduce(into: Set(start...text.count)) { $0.formIntersection(ends($1, from: start)) }
    case .complement(let inner):
      return Set(start...text.count).subtracting(ends(inner, from: start))
    }
  }

  /// Whether the start symbol derives the whole text: a table of which symbol derives which substring, filled until nothing
  /// changes.
  func isMember(of grammar: Grammar) -> Bool {
    var derives: Set<[Int]> = []
    var changed = true
    func ends(_ elements: ArraySlice<Grammar.Element>, from start: Int) -> Set<Int> {
      guard let first = elements.first else { return [start] }
      let middle: Set<Int>
      switch first {
      case .terminal(let terminal): middle = self.ends(grammar.terminals[terminal.index], from: start)
      case .symbol(let symbol):
        middle = Set((start...text.count).filter { derives.contains([symbol.index, start, $0]) })
      }
      return middle.reduce(into: []) { $0.formUnion(ends(elements.dropFirst(), from: $1)) }
    }
    while changed {
      changed = false
      for (symbol, rules) in grammar.rules.enumerated() {
        for start in 0...text.count {
          for rule in rules {
            for end in ends(rule[...], from: start) where derives.insert([symbol, start, end]).inserted {
              changed = true
            }
          }
        }
      }
    }
    return derives.contains([grammar.start.index, 0, text.count])
  }
}

/// Random numbers that are the same in every run.
struct TestRandom: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

extension TestRandom {
  mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

  /// A random expression over the bytes a, b and c.
  mutating func expression(depth: Int) -> ByteExpression {
    if depth == 0 || number(0...5) == 0 {
      switch number(0...9) {
      case 0: return .empty
      case 1: return .byte(.all)
      case 2: return .byte(ByteSet("ab".utf8))
      default: return .byte(ByteSet([UInt8(0x61 + number(0...2))]))
      }
    }
    func parts(_ random: inout TestRandom) -> [ByteExpression] {
      (0..<random.number(1...3)).map { _ in random.expression(depth: depth - 1) }
    }
    switch number(0...9) {
    case 0, 1, 2: return .sequence(parts(&self))
    case 3, 4, 5: return .alternatives(parts(&self))
    case 6, 7:
      let minimum = number(0...2)
      let maximum = number(0...2)
      return .repetition(
        expression(depth: depth - 1), minimum: minimum, maximum: maximum == 2 ? nil : minimum + maximum)
    case 8: return .intersection(parts(&self))
    default: return .complement(expression(depth: depth - 1))
    }
  }

  /// A random grammar of a few symbols.
  mutating func grammar(symbols: Int, depth: Int) -> Grammar {
    var grammar = Grammar()
    let names = (0..<symbols).map { grammar.addSymbol("s\($0)") }
    grammar.start = names[0]
    for name in names {
      for _ in 0..<number(1...3) {
        var rule: [Grammar.Element] = []
        for _ in 0..<number(0...3) {
          if number(0...1) == 0 {
            rule.append(.symbol(names[number(0...symbols - 1)]))
          } else {
            rule.append(.terminal(grammar.terminal(expression(depth: number(0...depth)))))
          }
        }
        grammar.addRule(name, rule)
      }
    }
    return grammar
  }
}

/// All texts over an alphabet, up to a length.
func texts(over alphabet: [UInt8], upTo length: Int) -> [[UInt8]] {
  var result: [[UInt8]] = [[]]
  var last = result
  for _ in 0..<length {
    last = last.flatMap { text in alphabet.map { text + [$0] } }
    result += last
  }
  return result
}
