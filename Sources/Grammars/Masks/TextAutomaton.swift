/// The automaton of whole texts under a grammar, built as texts need it.
///
/// A state is a set of pairs of a parser's state and a lexer's state: the parser's state says where a terminal began, the lexer's
/// what may follow of it. A byte moves all of them, and where terminals end there, one more pair begins. Since all ways to divide
/// the text into terminals are in the set, a text is a prefix of a member exactly if its state is not dead.
struct TextAutomaton {
  let start: Start
  var lexer: LexerAutomaton
  var parser: ParserStates
  /// Each state: 1 if the text may end there or else 0, then ascending pairs of parser's and lexer's state.
  private var states = SequenceTable()
  /// For each state and class of bytes the next state, or -1 if it has not been needed yet.
  private(set) var transitions: [Int32] = []
  /// The masks of states that texts have been in.
  private var masks: [Int32: [UInt32]] = [:]
  /// Which characters of plain text, and which letters, may follow states.
  var plainSteps: [Int32: PlainStep] = [:]
  var letterSteps: [Int32: PlainStep] = [:]
  private var maskMemory = 0

  /// What the automaton is built from.
  struct Start {
    let lexer: LexerAutomaton
    let rules: ParserRules
    /// The steps of reading plain text and letters, in classes of bytes.
    let plainSteps: [[(byteClass: Int, next: Int)]]
    let letterSteps: [[(byteClass: Int, next: Int)]]

    init(lexer: LexerAutomaton, rules: ParserRules) {
      self.lexer = lexer
      self.rules = rules
      plainSteps = PlainText.steps(PlainText.steps, lexer.classes)
      letterSteps = PlainText.steps(PlainText.letterSteps, lexer.classes)
    }
  }

  /// The state from which no text is possible.
  static let dead: Int32 = 0

  init(_ start: Start) {
    self.start = start
    lexer = start.lexer
    parser = ParserStates(start.rules)
    _ = insert([0])
    for index in transitions.indices { transitions[index] = Self.dead }
  }

  /// How many classes of bytes there are.
  var classCount: Int { lexer.representatives.count }
  /// About how many bytes the states take.
  var memory: Int {
    lexer.memory + parser.memory + states.memory + 4 * transitions.capacity + maskMemory
      + 128 * (plainSteps.count + letterSteps.count)
  }

  /// The work since `allow(work:)`.
  var work: Int { lexer.expressions.work }

  /// Begins to count work.
  mutating func allow(work limit: Int) {
    lexer.expressions.work = 0
    lexer.expressions.workLimit = limit
  }

  /// How many bytes the masks may take. Beyond that they are found again.
  private static let maximumMaskMemory = 16 << 20

  /// The mask of the tokens that may follow a state. Most tokens of a text follow a state that another token followed before,
  /// such as the inside of a string.
  mutating func mask(
    after state: Int32, _ find: (inout TextAutomaton) throws(GrammarError) -> [UInt32]
  ) throws(GrammarError) -> [UInt32] {
    if let known = masks[state] { return known }
    let mask = try find(&self)
    if maskMemory + 4 * mask.count > Self.maximumMaskMemory {
      masks = [:]
      maskMemory = 0
    }
    masks[state] = mask
    maskMemory += 4 * mask.count
    return mask
  }

  /// Adds a state if it is new. Its row of transitions is work like other memory.
  private mutating func add(_ content: [Int32]) throws(GrammarError) -> Int32 {
    try lexer.expressions.spend((classCount + content.count) / 16)
    return insert(content)
  }

  private mutating func insert(_ content: [Int32]) -> Int32 {
    let (index, isNew) = states.intern(content)
    if isNew { transitions.append(contentsOf: repeatElement(-1, count: classCount)) }
    return index
  }

  /// The state before the text.
  mutating func initialState() throws(GrammarError) -> Int32 {
    let closure = try parser.closure(ParserStates.initial, &lexer)
    return try add([closure.isComplete ? 1 : 0, ParserStates.initial, closure.lexerState])
  }

  /// Whether the text may end in a state.
  func canEnd(_ state: Int32) -> Bool { states.number(at: states.range(state).lowerBound) == 1 }

  /// The state after a byte.
  mutating func next(_ state: Int32, byte: UInt8) throws(GrammarError) -> Int32 {
    try next(state, Int(lexer.classes[Int(byte)]))
  }

  /// The state after a byte of a class.
  mutating func next(_ state: Int32, _ byteClass: Int) throws(GrammarError) -> Int32 {
    let row = Int(state) * classCount
    let known = transitions[row + byteClass]
    if known >= 0 { return known }
    let content = Array(states[state])
    try lexer.expressions.spend(1 + content.count / 4)
    var pairs: [(parser: Int32, lexer: Int32)] = []
    var entered: [ParserStates.Pair] = []
    var isComplete = false
    var hasEnding = false
    for index in stride(from: 1, to: content.count, by: 2) {
      let next = try lexer.next(content[index + 1], byteClass)
      if next == LexerAutomaton.dead { continue }
      pairs.append((content[index], next))
      let endings = lexer.endings[Int(next)]
      if endings.isEmpty { continue }
      hasEnding = true
      let closure = try parser.closure(content[index], &lexer)
      for terminal in endings {
        let target = closure.target(after: terminal)
        try lexer.expressions.spend(1 + target.count)
        if target[0] == 1 { isComplete = true }
        for position in stride(from: 1, to: target.count, by: 2) {
          entered.append(ParserStates.Pair(place: target[position], reference: target[position + 1]))
        }
      }
    }
    if hasEnding {
      let state = parser.state(ParserStates.content(isComplete: isComplete, &entered))
      let closure = try parser.closure(state, &lexer)
      isComplete = closure.isComplete
      if !closure.terminals.isEmpty { pairs.append((state, closure.lexerState)) }
    }
    pairs.sort { ($0.parser, $0.lexer) < ($1.parser, $1.lexer) }
    var result: [Int32] = [isComplete ? 1 : 0]
    for pair in pairs where result.count < 3 || result[result.count - 2] != pair.parser || result.last != pair.lexer {
      result.append(pair.parser)
      result.append(pair.lexer)
    }
    let next = try add(result)
    // Other classes that move each lexer's state alike lead to the same state.
    transitions[row + byteClass] = next
    for other in 0..<classCount where transitions[row + other] < 0 {
      var isAlike = true
      try lexer.expressions.spend(content.count / 64)
      for index in stride(from: 1, to: content.count, by: 2) where isAlike {
        let lexerRow = Int(content[index + 1]) * classCount
        isAlike = lexer.transitions[lexerRow + other] == lexer.transitions[lexerRow + byteClass]
      }
      if isAlike { transitions[row + other] = next }
    }
    return next
  }
}
