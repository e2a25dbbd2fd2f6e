/// The automaton of sets of terminals, built as texts need it.
///
/// A state says for each terminal that may have begun at some point of the text what may still follow. Bytes that no expression
/// of the grammar tells apart are one class.
struct LexerAutomaton {
  var expressions: ExpressionTable
  /// The class of each byte.
  let classes: [UInt8]
  /// A byte of each class.
  let representatives: [UInt8]
  private var states = SequenceTable()
  /// For each state and class the next state, or -1 if it has not been needed yet.
  private(set) var transitions: [Int32] = []
  /// For each state the terminals that may end there.
  private(set) var endings: [[Int32]] = []

  /// The state without terminals, from which no text is possible.
  static let dead: Int32 = 0

  init(_ expressions: ExpressionTable) {
    self.expressions = expressions
    (classes, representatives) = LexerAutomaton.classes(of: expressions.sets)
    _ = insert([])
    for index in transitions.indices { transitions[index] = Self.dead }
  }

  var count: Int { states.count }
  /// About how many bytes the states take.
  var memory: Int { expressions.memory + 4 * transitions.capacity + states.memory + 64 * states.count }

  /// The state at the beginning of terminals, given as ascending pairs of a terminal and its expression.
  mutating func state(_ pairs: [Int32]) throws(GrammarError) -> Int32 { try add(pairs) }

  /// Adds a state if it is new. Its row of transitions is work like other memory.
  private mutating func add(_ pairs: [Int32]) throws(GrammarError) -> Int32 {
    try expressions.spend((representatives.count + pairs.count) / 16)
    return insert(pairs)
  }

  private mutating func insert(_ pairs: [Int32]) -> Int32 {
    let (index, isNew) = states.intern(pairs)
    if isNew {
      transitions.append(contentsOf: repeatElement(-1, count: representatives.count))
      var ending: [Int32] = []
      for position in stride(from: 0, to: pairs.count, by: 2) where expressions.isNullable(pairs[position + 1]) {
        ending.append(pairs[position])
      }
      endings.append(ending)
    }
    return index
  }

  /// The state after a byte of a class.
  mutating func next(_ state: Int32, _ byteClass: Int) throws(GrammarError) -> Int32 {
    let known = transitions[Int(state) * representatives.count + byteClass]
    if known >= 0 { return known }
    let byte = representatives[byteClass]
    var alike = ByteSet.all
    var pairs: [Int32] = []
    let range = states.range(state)
    for position in stride(from: range.lowerBound, to: range.upperBound, by: 2) {
      let node = try expressions.derivative(states.number(at: position + 1), byte, &alike)
      if try expressions.isLive(node) { pairs += [states.number(at: position), node] }
    }
    let next = try add(pairs)
    let row = Int(state) * representatives.count
    for (other, byte) in representatives.enumerated() where alike.contains(byte) { transitions[row + other] = next }
    return next
  }

  /// The coarsest division of the bytes of which every set is a union.
  private static func classes(of sets: [ByteSet]) -> ([UInt8], [UInt8]) {
    var classes = [UInt8](repeating: 0, count: 256)
    var count = 1
    for set in sets where count < 256 {
      // For each class, the new number of its bytes inside and outside the set.
      var numbers = [Int](repeating: -1, count: 2 * count)
      var next = 0
      for byte in 0..<256 {
        let key = 2 * Int(classes[byte]) + (set.contains(UInt8(byte)) ? 1 : 0)
        if numbers[key] < 0 {
          numbers[key] = next
          next += 1
        }
        classes[byte] = UInt8(numbers[key])
      }
      count = next
    }
    var representatives = [UInt8](repeating: 0, count: count)
    for byte in (0..<256).reversed() { representatives[Int(classes[byte])] = UInt8(byte) }
    return (classes, representatives)
  }
}
