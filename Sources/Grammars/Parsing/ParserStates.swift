/// The states of the parser, built as texts need them.
///
/// This is an Earley parser in which a set of items does not refer to a position of the text. An item is a place in a rule and a
/// *return*: the state that the parser is in, beside others, when the rule ends. So a state is a set of such pairs, and whether
/// the text is complete. States with the same pairs have the same future and are one state. Lists become cycles of states, whether
/// the grammar writes them with left or with right recursion; only nesting makes new states.
///
/// A return is complete at once: where a rule's last symbol is entered, the inner return is the outer one (as in Leo 1991).
struct ParserStates {
  let rules: ParserRules
  /// Each state: 1 if the text is complete or else 0, then ascending pairs of place and return.
  private var contents: [[Int32]] = []
  /// The states by their contents.
  private var index: [[Int32]: Int32] = [:]
  /// States that refer to themselves through returns, by what they look like with relative numbers: their own numbers are not
  /// known before they are found.
  private var cycles: [[Int32]: Int32] = [:]
  private var contentSize = 0
  private var closures: [Closure?] = []

  /// What a state expects next.
  struct Closure {
    /// Whether the text is complete in the state.
    var isComplete: Bool
    /// The terminals that may begin, ascending.
    var terminals: [Int32]
    /// For each of them what the state after it consists of, as in `contents`.
    var targets: [[Int32]]
    /// The lexer's state at the beginning of all the terminals.
    var lexerState: Int32

    /// What the state after one of the terminals consists of.
    func target(after terminal: Int32) -> [Int32] {
      var (low, high) = (0, terminals.count)
      while low < high {
        let middle = (low + high) / 2
        if terminals[middle] < terminal { low = middle + 1 } else { high = middle }
      }
      return targets[low]
    }
  }

  /// The state after the whole text.
  static let complete: Int32 = 0
  /// The state before the text.
  static let initial: Int32 = 1

  init(_ rules: ParserRules) {
    self.rules = rules
    _ = state([1])
    _ = state([0, rules.startPlace, Self.complete])
  }

  var count: Int { closures.count }
  private(set) var closureMemory = 0
  /// About how many bytes the states take.
  var memory: Int { 8 * contentSize + 256 * contents.count + closureMemory + rules.memory }

  /// The state of contents that are in order.
  mutating func state(_ content: [Int32]) -> Int32 {
    if let known = index[content] { return known }
    let state = Int32(contents.count)
    index[content] = state
    append(content)
    return state
  }

  private mutating func append(_ content: [Int32]) {
    contents.append(content)
    closures.append(nil)
    contentSize += content.count
  }

  /// What a state expects, computed at the first call.
  mutating func closure(_ state: Int32, _ lexer: inout LexerAutomaton) throws(GrammarError) -> Closure {
    if let known = closures[Int(state)] { return known }
    let closure = try makeClosure(state, &lexer)
    closures[Int(state)] = closure
    closureMemory += 16 * closure.terminals.count + closure.targets.reduce(0) { $0 + 4 * $1.count + 32 }
    return closure
  }

  /// Contents from pairs in any order.
  static func content(isComplete: Bool, _ pairs: inout [Pair]) -> [Int32] {
    pairs.sort { ($0.place, $0.reference) < ($1.place, $1.reference) }
    var content: [Int32] = [isComplete ? 1 : 0]
    content.reserveCapacity(1 + 2 * pairs.count)
    var last: Pair?
    for pair in pairs where pair != last {
      content.append(pair.place)
      content.append(pair.reference)
      last = pair
    }
    return content
  }

  /// A place and its return: a state, or `~symbol` for the return of a symbol that the state itself predicts.
  struct Pair: Hashable {
    var place: Int32
    var reference: Int32
  }

  /// A return while it is being made.
  private struct Return {
    var pairs: [Pair] = []
    var isComplete = false
    /// The predicted symbols whose returns are part of this one, since a rule of theirs ends with this symbol.
    var included: [Int32] = []
  }

  private mutating func makeClosure(_ state: Int32, _ lexer: inout LexerAutomaton) throws(GrammarError) -> Closure {
    var isComplete = false
    var seen: Set<Pair> = []
    var pending: [Pair] = []
    var scanned: [(terminal: Int32, pair: Pair)] = []
    /// Predicted symbols in the order in which they are found, and where each waits.
    var predicted: [Int32] = []
    var waiting: [Int32: [Pair]] = [:]

    func add(_ pair: Pair) { if seen.insert(pair).inserted { pending.append(pair) } }
    func addContent(of state: Int32) {
      let content = contents[Int(state)]
      if content[0] == 1 { isComplete = true }
      for index in stride(from: 1, to: content.count, by: 2) {
        add(Pair(place: content[index], reference: content[index + 1]))
      }
    }
    addContent(of: state)
    while let pair = pending.popLast() {
      try lexer.expressions.spend(1)
      let element = rules.elements[Int(pair.place)]
      if element < 0 {
        scanned.append((~element, pair))
      } else if waiting[element]?.append(pair) == nil {
        waiting[element] = [pair]
        predicted.append(element)
        for place in rules.firstPlaces[Int(element)] where rules.elements[Int(place)] != ParserRules.end {
          add(Pair(place: place, reference: ~element))
        }
      }
      guard rules.isNullable[Int(pair.place)] else { continue }
      if rules.elements[Int(pair.place) + 1] != ParserRules.end {
        add(Pair(place: pair.place + 1, reference: pair.reference))
      } else if pair.reference >= 0 {
        // The rule may end here. A rule that the state predicts needs nothing: its symbol is nullable, so that the places after
        // the symbol are here already.
        addContent(of: pair.reference)
      }
    }

    var returns: [Int32: Return] = [:]
    for symbol in predicted { returns[symbol] = try makeReturn(waiting[symbol]!, &lexer) }
    try includeReturns(predicted, &returns, &lexer)
    let resolved = try resolve(predicted, returns, &lexer)

    scanned.sort { $0.terminal < $1.terminal }
    var terminals: [Int32] = []
    var targets: [[Int32]] = []
    var lexerPairs: [Int32] = []
    var index = 0
    while index < scanned.count {
      let terminal = scanned[index].terminal
      var target = Return()
      while index < scanned.count, scanned[index].terminal == terminal {
        let pair = scanned[index].pair
        let reference = pair.reference < 0 ? resolved[~pair.reference]! : pair.reference
        try advance(Pair(place: pair.place, reference: reference), &target, &lexer)
        index += 1
      }
      terminals.append(terminal)
      targets.append(ParserStates.content(isComplete: target.isComplete, &target.pairs))
      lexerPairs += [terminal, rules.terminals[Int(terminal)]]
    }
    return Closure(
      isComplete: isComplete, terminals: terminals, targets: targets, lexerState: try lexer.state(lexerPairs))
  }

  /// Adds what is possible after the element at a pair's place: the next place, or the return if the rule ends.
  private func advance(_ pair: Pair, _ result: inout Return, _ lexer: inout LexerAutomaton) throws(GrammarError) {
    try lexer.expressions.spend(1)
    if rules.elements[Int(pair.place) + 1] != ParserRules.end {
      result.pairs.append(Pair(place: pair.place + 1, reference: pair.reference))
    } else if pair.reference < 0 {
      result.included.append(~pair.reference)
    } else {
      let content = contents[Int(pair.reference)]
      try lexer.expressions.spend(content.count / 2)
      if content[0] == 1 { result.isComplete = true }
      for index in stride(from: 1, to: content.count, by: 2) {
        result.pairs.append(Pair(place: content[index], reference: content[index + 1]))
      }
    }
  }

  private func makeReturn(_ pairs: [Pair], _ lexer: inout LexerAutomaton) throws(GrammarError) -> Return {
    var result = Return()
    for pair in pairs { try advance(pair, &result, &lexer) }
    result.pairs = Array(Set(result.pairs))
    return result
  }

  /// Adds to each return the returns that it includes, also through others.
  private func includeReturns(
    _ predicted: [Int32], _ returns: inout [Int32: Return], _ lexer: inout LexerAutomaton
  ) throws(GrammarError) {
    for symbol in predicted where !returns[symbol]!.included.isEmpty {
      var reached: Set<Int32> = [symbol]
      var pending = returns[symbol]!.included
      var pairs = Set(returns[symbol]!.pairs)
      var isComplete = returns[symbol]!.isComplete
      while let other = pending.popLast() {
        guard reached.insert(other).inserted else { continue }
        let part = returns[other]!
        try lexer.expressions.spend(1 + part.pairs.count)
        pairs.formUnion(part.pairs)
        isComplete = isComplete || part.isComplete
        pending += part.included
      }
      returns[symbol]!.pairs = Array(pairs)
      returns[symbol]!.isComplete = isComplete
      returns[symbol]!.included = []
    }
  }

  /// The states of the returns. Those that refer to no other return of this closure come first, then those that refer to these;
  /// what remains is in cycles or leads to them.
  private mutating func resolve(
    _ predicted: [Int32], _ returns: [Int32: Return], _ lexer: inout LexerAutomaton
  ) throws(GrammarError) -> [Int32: Int32] {
    var resolved: [Int32: Int32] = [:]
    var missing: [Int32: Set<Int32>] = [:]
    var users: [Int32: [Int32]] = [:]
    var ready: [Int32] = []
    for symbol in predicted {
      var references: Set<Int32> = []
      for pair in returns[symbol]!.pairs where pair.reference < 0 { references.insert(~pair.reference) }
      try lexer.expressions.spend(1 + references.count)
      missing[symbol] = references
      for reference in references { users[reference, default: []].append(symbol) }
      if references.isEmpty { ready.append(symbol) }
    }
    func content(_ symbol: Int32) -> [Int32] {
      var pairs = returns[symbol]!.pairs.map { pair in
        Pair(place: pair.place, reference: pair.reference < 0 ? resolved[~pair.reference]! : pair.reference)
      }
      return ParserStates.content(isComplete: returns[symbol]!.isComplete, &pairs)
    }
    while let symbol = ready.popLast() {
      resolved[symbol] = self.state(content(symbol))
      for user in users[symbol] ?? [] {
        missing[user]!.remove(symbol)
        if missing[user]!.isEmpty { ready.append(user) }
      }
    }
    let remaining = predicted.filter { resolved[$0] == nil }
    if remaining.isEmpty { return resolved }
    var numbers = resolved
    var added: [Int32] = []
    for symbol in remaining {
      let key = try cycleKey(symbol, returns, resolved, &lexer)
      if let known = cycles[key] {
        numbers[symbol] = known
        continue
      }
      let state = Int32(contents.count)
      cycles[key] = state
      contentSize += key.count
      append([])
      added.append(symbol)
      numbers[symbol] = state
    }
    resolved = numbers
    for symbol in added {
      let state = resolved[symbol]!
      let content = content(symbol)
      contents[Int(state)] = content
      contentSize += content.count
      if index[content] == nil { index[content] = state }
    }
    return resolved
  }

  /// What a return looks like whose references to returns of the same closure are numbered in the order in which they are met.
  private func cycleKey(
    _ symbol: Int32, _ returns: [Int32: Return], _ resolved: [Int32: Int32], _ lexer: inout LexerAutomaton
  ) throws(GrammarError) -> [Int32] {
    var numbers: [Int32: Int32] = [symbol: 0]
    var order = [symbol]
    var key: [Int32] = []
    var position = 0
    while position < order.count {
      let part = returns[order[position]]!
      position += 1
      try lexer.expressions.spend(1 + part.pairs.count)
      let pairs = part.pairs.sorted { ($0.place, $0.reference) < ($1.place, $1.reference) }
      key += [part.isComplete ? 1 : 0, Int32(pairs.count)]
      for pair in pairs {
        key.append(pair.place)
        if pair.reference >= 0 {
          key.append(pair.reference)
        } else if let known = resolved[~pair.reference] {
          key.append(known)
        } else {
          let other = ~pair.reference
          if numbers[other] == nil {
            numbers[other] = Int32(order.count)
            order.append(other)
          }
          key.append(~numbers[other]!)
        }
      }
    }
    return key
  }
}
