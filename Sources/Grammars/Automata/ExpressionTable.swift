/// Regular expressions as nodes of a graph, each of which is stored once.
///
/// The constructors write equal languages in the same way where that is easy to see: the members of alternatives and intersections
/// are sorted and differ from one another, a sequence is a first part and a rest, and repetitions of one body that follow one
/// another are one repetition. An expression then has few different derivatives, which are the states of an automaton
/// (Brzozowski 1964; Owens, Reppy and Turon 2009).
struct ExpressionTable {
  /// A node's position.
  typealias Node = Int32

  /// What the first number of a stored node says.
  enum Kind: Int32 {
    case nothing, empty, byte, sequence, alternatives, repetition, intersection, complement
  }

  /// The expression of no string.
  static let nothing: Node = 0
  /// The expression of the empty string.
  static let empty: Node = 1
  /// The expression of all strings.
  static let everything: Node = 2

  private var nodes = SequenceTable()
  private var properties: [UInt8] = []
  private(set) var sets: [ByteSet] = []
  private var setIndex: [ByteSet: Int32] = [:]
  /// How much work has been done since the caller set this to 0, and when to stop.
  var work = 0
  var workLimit: Int
  let nodeLimit: Int
  let depthLimit: Int

  private static let nullable: UInt8 = 1
  /// Whether an intersection or a complement is inside, so that the expression may stand for no string without being `nothing`.
  private static let mayBeVoid: UInt8 = 2
  private static let live: UInt8 = 4
  private static let void: UInt8 = 8

  init(limits: GrammarLimits) {
    workLimit = limits.work
    nodeLimit = limits.expressions
    depthLimit = limits.depth
    add([Kind.nothing.rawValue], 0)
    add([Kind.empty.rawValue], Self.nullable)
    add([Kind.complement.rawValue, Self.nothing], Self.nullable)
  }

  /// How many nodes there are.
  var count: Int { nodes.count }
  /// About how many bytes the nodes take.
  var memory: Int { nodes.memory + 2 * nodes.count + 128 * sets.count }

  func kind(_ node: Node) -> Kind { Kind(rawValue: nodes.number(at: nodes.range(node).lowerBound))! }
  /// The parts of a node: nodes, or what its kind says.
  func operands(_ node: Node) -> ArraySlice<Int32> { nodes[node].dropFirst() }
  func operand(_ node: Node, _ position: Int) -> Int32 {
    nodes.number(at: nodes.range(node).lowerBound + 1 + position)
  }
  /// Whether the empty string is in the expression.
  func isNullable(_ node: Node) -> Bool { properties[Int(node)] & Self.nullable != 0 }
  func byteSet(_ node: Node) -> ByteSet { sets[Int(operand(node, 0))] }

  /// Counts work, and throws if it is too much for one operation.
  mutating func spend(_ units: Int) throws(GrammarError) {
    work += units
    if work > workLimit { throw .tooMuchWork(limit: workLimit) }
  }

  @discardableResult private mutating func add(_ content: [Int32], _ property: UInt8) -> Node {
    let (index, isNew) = nodes.intern(content)
    if isNew { properties.append(property) }
    return index
  }

  private func mayBeVoid(_ node: Node) -> Bool { properties[Int(node)] & Self.mayBeVoid != 0 }

  /// What is known of whether a node stands for any string; nil if it must be searched.
  func knownLiveness(_ node: Node) -> Bool? {
    let property = properties[Int(node)]
    if property & (Self.nullable | Self.live) != 0 { return true }
    if property & Self.void != 0 || node == Self.nothing { return false }
    return property & Self.mayBeVoid == 0 ? true : nil
  }

  /// Records whether a node stands for any string.
  mutating func setLiveness(_ node: Node, _ isLive: Bool) {
    properties[Int(node)] |= isLive ? Self.live : Self.void
  }
}

// Constructors.
extension ExpressionTable {
  mutating func byte(_ set: ByteSet) -> Node {
    if set.isEmpty { return Self.nothing }
    let index: Int32
    if let known = setIndex[set] {
      index = known
    } else {
      index = Int32(sets.count)
      sets.append(set)
      setIndex[set] = index
    }
    return add([Kind.byte.rawValue, index], 0)
  }

  mutating func sequence(_ first: Node, _ second: Node) throws(GrammarError) -> Node {
    var parts: [Node] = []
    var first = first
    while kind(first) == .sequence {
      parts.append(operand(first, 0))
      first = operand(first, 1)
    }
    parts.append(first)
    var result = second
    for part in parts.reversed() {
      try spend(1)
      result = joined(part, result)
    }
    return result
  }

  /// A sequence of a first part that is no sequence, and a rest.
  private mutating func joined(_ head: Node, _ tail: Node) -> Node {
    if head == Self.nothing || tail == Self.nothing { return Self.nothing }
    if head == Self.empty { return tail }
    if tail == Self.empty { return head }
    if head == Self.everything, tail == Self.everything { return tail }
    if kind(head) == .repetition {
      let next = kind(tail) == .sequence ? operand(tail, 0) : tail
      if kind(next) == .repetition, operand(next, 0) == operand(head, 0),
        let minimum = Self.sum(operand(head, 1), operand(next, 1)),
        let maximum = Self.sum(operand(head, 2), operand(next, 2))
      {
        let both = counted(operand(head, 0), minimum, maximum)
        return next == tail ? both : joined(both, operand(tail, 1))
      }
    }
    var property: UInt8 = 0
    if isNullable(head), isNullable(tail) { property |= Self.nullable }
    if mayBeVoid(head) || mayBeVoid(tail) { property |= Self.mayBeVoid }
    return add([Kind.sequence.rawValue, head, tail], property)
  }

  /// The sum of two counts, of which -1 is without end; nil if it is too large.
  private static func sum(_ first: Int32, _ second: Int32) -> Int32? {
    if first < 0 || second < 0 { return -1 }
    let (sum, overflow) = first.addingReportingOverflow(second)
    return overflow ? nil : sum
  }

  /// A repetition in normal form, stored as it is. A maximum of -1 is without end.
  private mutating func counted(_ body: Node, _ minimum: Int32, _ maximum: Int32) -> Node {
    if body == Self.everything { return body }
    if minimum == 0, maximum == -1, kind(body) == .byte, byteSet(body) == .all { return Self.everything }
    var property: UInt8 = minimum == 0 ? Self.nullable : 0
    if mayBeVoid(body) { property |= Self.mayBeVoid }
    return add([Kind.repetition.rawValue, body, minimum, maximum], property)
  }

  /// The body `minimum` to `maximum` times; a maximum of -1 is without end.
  mutating func repetition(_ body: Node, _ minimum: Int32, _ maximum: Int32) -> Node {
    if maximum == 0 || body == Self.empty { return Self.empty }
    if body == Self.nothing { return minimum == 0 ? Self.empty : Self.nothing }
    if minimum == 1, maximum == 1 { return body }
    let minimum = isNullable(body) ? 0 : minimum
    if kind(body) == .repetition {
      // The counts of the body's body are without gap if each further round begins where the last one ended.
      let (low, high) = (operand(body, 1), operand(body, 2))
      let (lowest, overflow) = low.multipliedReportingOverflow(by: minimum)
      let (highest, overflowHigh) = high.multipliedReportingOverflow(by: max(maximum, 0))
      if low <= 1, !overflow {
        if high == -1 || maximum == -1 { return counted(operand(body, 0), lowest, -1) }
        if !overflowHigh { return counted(operand(body, 0), lowest, highest) }
      }
    }
    return counted(body, minimum, maximum)
  }

  mutating func alternatives(_ list: [Node]) throws(GrammarError) -> Node {
    var members: [Node] = []
    var bytes = ByteSet()
    var pending = list
    while let node = pending.popLast() {
      try spend(1)
      switch kind(node) {
      case .nothing: continue
      case .alternatives: pending.append(contentsOf: operands(node))
      case .byte: bytes = bytes.union(byteSet(node))
      default: members.append(node)
      }
      if node == Self.everything { return node }
    }
    if !bytes.isEmpty { members.append(byte(bytes)) }
    members = sortedSet(members)
    if members.count > 1 { members = try joiningRepetitions(members) }
    if members.first == Self.empty, members.dropFirst().contains(where: isNullable) { members.removeFirst() }
    if members.isEmpty { return Self.nothing }
    if members.count == 1 { return members[0] }
    var property: UInt8 = members.contains(where: isNullable) ? Self.nullable : 0
    if members.contains(where: mayBeVoid) { property |= Self.mayBeVoid }
    return add([Kind.alternatives.rawValue] + members, property)
  }

  /// Joins alternatives that differ only in how often one body is repeated at the beginning, where the counts meet.
  ///
  /// Without this, an ambiguous counted repetition has a derivative for each way to divide the count.
  private mutating func joiningRepetitions(_ members: [Node]) throws(GrammarError) -> [Node] {
    struct Repeated {
      let body, tail: Node
      let minimum, maximum: Int32

      func isLike(_ other: Repeated) -> Bool { body == other.body && tail == other.tail }
    }
    var repeated: [Repeated] = []
    var others: [Node] = []
    for node in members {
      let isSequence = kind(node) == .sequence
      let head = isSequence ? operand(node, 0) : node
      if kind(head) == .repetition {
        repeated.append(
          Repeated(
            body: operand(head, 0), tail: isSequence ? operand(node, 1) : Self.empty, minimum: operand(head, 1),
            maximum: operand(head, 2)))
      } else {
        others.append(node)
      }
    }
    if repeated.count < 2 { return members }
    try spend(repeated.count)
    repeated.sort { ($0.body, $0.tail, $0.minimum) < ($1.body, $1.tail, $1.minimum) }
    guard zip(repeated, repeated.dropFirst()).contains(where: { $0.isLike($1) }) else { return members }
    var index = 0
    while index < repeated.count {
      // The counts from here on that meet.
      let first = repeated[index]
      var maximum = first.maximum
      index += 1
      while index < repeated.count, repeated[index].isLike(first),
        maximum == -1 || repeated[index].minimum <= maximum + 1
      {
        maximum = maximum == -1 || repeated[index].maximum == -1 ? -1 : max(maximum, repeated[index].maximum)
        index += 1
      }
      others.append(try sequence(repetition(first.body, first.minimum, maximum), first.tail))
    }
    return sortedSet(others)
  }

  mutating func intersection(_ list: [Node]) throws(GrammarError) -> Node {
    var members: [Node] = []
    var bytes: ByteSet?
    var pending = list
    while let node = pending.popLast() {
      try spend(1)
      switch kind(node) {
      case .nothing: return Self.nothing
      case .intersection: pending.append(contentsOf: operands(node))
      case .byte: bytes = bytes?.intersection(byteSet(node)) ?? byteSet(node)
      default: if node != Self.everything { members.append(node) }
      }
    }
    if let bytes {
      if bytes.isEmpty { return Self.nothing }
      members.append(byte(bytes))
    }
    members = sortedSet(members)
    if members.isEmpty { return Self.everything }
    if members.count == 1 { return members[0] }
    if members.first == Self.empty { return members.allSatisfy(isNullable) ? Self.empty : Self.nothing }
    for node in members where kind(node) == .complement && isIn(members, operand(node, 0)) { return Self.nothing }
    let property: UInt8 = Self.mayBeVoid | (members.allSatisfy(isNullable) ? Self.nullable : 0)
    return add([Kind.intersection.rawValue] + members, property)
  }

  mutating func complement(_ node: Node) -> Node {
    if kind(node) == .complement { return operand(node, 0) }
    return add([Kind.complement.rawValue, node], Self.mayBeVoid | (isNullable(node) ? 0 : Self.nullable))
  }

  /// Whether a node is in a sorted list.
  private func isIn(_ sorted: [Node], _ node: Node) -> Bool {
    var (low, high) = (0, sorted.count)
    while low < high {
      let middle = (low + high) / 2
      if sorted[middle] < node { low = middle + 1 } else { high = middle }
    }
    return low < sorted.count && sorted[low] == node
  }

  private func sortedSet(_ list: [Node]) -> [Node] {
    if list.count < 2 { return list }
    var result: [Node] = []
    for node in list.sorted() where node != result.last { result.append(node) }
    return result
  }
}
