extension SchemaGrammarBuilder {
  /// How many states the digits of a multiple may need.
  private static let mostStates = 20_000

  /// Lets a symbol derive the numbers that meet the demands.
  mutating func addNumber(_ conjunction: SchemaConjunction, to symbol: Grammar.Symbol) throws(SchemaError) {
    let demands = conjunction.number
    let whole = conjunction.kinds.contains(.integer)
    let fractional = conjunction.kinds.contains(.fraction)
    if demands == SchemaConjunction.NumberDemands(), whole {
      try addRule(
        symbol, .expression(try bytes(of: fractional ? NumberExpression.number : NumberExpression.integer, .raw)))
      return
    }
    let bounded = NumberExpression.within(demands.bounds, whole: whole, fractional: fractional)
    let excluded = demands.excluded.map { TextExpression.complement(NumberExpression.read(as: $0)) }
    let text = TextExpression.all([bounded] + excluded)
    let multiples = demands.multiples
    guard multiples.isEmpty else {
      return try addMultiples(of: multiples, within: text, to: symbol)
    }
    if try hasText(text, conjunction) { try addRule(symbol, .expression(try bytes(of: text, .raw))) }
  }

  /// A state of reading a number digit by digit.
  private struct DigitState: Hashable {
    var state: TextExpressionAutomaton.State
    /// The remainder of the digits read; `nil` if the number is no multiple of the smallest unit.
    var remainder: Int?
    /// How many digits after the point are read; `nil` before the point.
    var places: Int?
  }

  /// A symbol for each state of the automaton that knows the remainder of the digits read.
  private mutating func addMultiples(
    of multiples: [SchemaConjunction.NumberDemands.Multiple], within text: TextExpression, to symbol: Grammar.Symbol
  ) throws(SchemaError) {
    func tooLarge(_ path: String) -> SchemaError {
      SchemaError(path, "multipleOf needs more than \(Self.mostStates) states")
    }
    let path = multiples[0].path
    let scale = multiples.map(\.number.fraction.count).max()!
    var divisors: [(divisor: Int, isPositive: Bool)] = []
    var modulus = 1
    for multiple in multiples {
      guard scale <= 9, var (divisor, places) = multiple.number.scaled else { throw tooLarge(multiple.path) }
      while places < scale, divisor <= Self.mostStates {
        divisor *= 10
        places += 1
      }
      guard divisor <= Self.mostStates else { throw tooLarge(multiple.path) }
      divisors.append((divisor, multiple.isPositive))
      var (a, b) = (modulus, divisor)
      while b > 0 { (a, b) = (b, a % b) }
      modulus = modulus / a * divisor
      guard modulus <= Self.mostStates else { throw tooLarge(multiple.path) }
    }
    let automaton = try budget.at(path) { (budget) throws(CompilationBudget.Exceeded) in
      try TextExpressionAutomaton(text, budget)
    }
    var known: [DigitState: Grammar.Symbol] = [:]
    var waiting: [DigitState] = []
    func follow(_ state: DigitState, in builder: inout SchemaGrammarBuilder) throws(SchemaError) -> Grammar.Symbol {
      if let symbol = known[state] { return symbol }
      guard known.count < Self.mostStates else { throw tooLarge(path) }
      let symbol = try builder.addSymbol("digits of a multiple")
      known[state] = symbol
      waiting.append(state)
      return symbol
    }
    let start = DigitState(state: automaton.start, remainder: 0, places: nil)
    try addRule(symbol, .symbol(try follow(start, in: &self)))
    while let current = waiting.popLast() {
      let from = known[current]!
      if automaton.accepts(current.state) {
        var remainder = current.remainder
        for _ in 0..<(scale - min(scale, current.places ?? 0)) { remainder = remainder.map { $0 * 10 % modulus } }
        let isMultiple = divisors.allSatisfy { divisor, isPositive in
          (remainder.map { $0 % divisor == 0 } ?? false) == isPositive
        }
        if isMultiple { try addRule(from) }
      }
      // Characters after which the same follows are one terminal.
      var following: [(next: DigitState, bytes: [UInt8])] = []
      for byte in "-.0123456789".utf8 {
        let state = try budget.at(path) { (_) throws(CompilationBudget.Exceeded) in
          try automaton.next(current.state, automaton.scalarClass(UInt32(byte)))
        }
        if automaton.isNothing(state) { continue }
        var next = DigitState(state: state, remainder: current.remainder, places: current.places)
        switch byte {
        case UInt8(ascii: "-"): break
        case UInt8(ascii: "."): next.places = 0
        default:
          let digit = Int(byte) - 0x30
          if let places = current.places, places >= scale {
            if digit != 0 { next.remainder = nil }
          } else {
            next.remainder = current.remainder.map { ($0 * 10 + digit) % modulus }
            next.places = current.places.map { $0 + 1 }
          }
        }
        if let index = following.firstIndex(where: { $0.next == next }) {
          following[index].bytes.append(byte)
        } else {
          following.append((next, [byte]))
        }
      }
      for (next, bytes) in following {
        try addRule(from, .expression(.byte(ByteSet(bytes))), .symbol(try follow(next, in: &self)))
      }
    }
  }
}
