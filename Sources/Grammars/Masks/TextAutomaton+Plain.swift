extension TextAutomaton {
  /// Which characters of plain text may follow a state.
  enum PlainStep {
    /// Not one.
    case none
    /// Some, or all but with many states after them.
    case some
    /// Every one, which leads to one of these states.
    case all([Int32])
  }

  /// How many states all plain characters after a state may lead to. With more, tokens are looked up one by one.
  static let mostPlainStates = 16

  /// Which characters of plain text may follow a state.
  mutating func plainStep(after state: Int32) throws(GrammarError) -> PlainStep {
    if let known = plainSteps[state] { return known }
    let step = try findPlainStep(after: state)
    plainSteps[state] = step
    return step
  }

  private mutating func findPlainStep(after state: Int32) throws(GrammarError) -> PlainStep {
    var following: Set<Int32> = []
    var isAnyDead = false
    /// States of the text and of reading UTF-8.
    var pending: [(state: Int32, reading: Int)] = [(state, 0)]
    var seen: Set<Int64> = []
    while let (state, reading) = pending.popLast() {
      for step in start.plainSteps[reading] {
        let next = try next(state, step.byteClass)
        if next == Self.dead {
          isAnyDead = true
        } else if step.next == 0 {
          following.insert(next)
        } else if seen.insert(Int64(next) << 8 | Int64(step.next)).inserted {
          pending.append((next, step.next))
        }
        if following.count > Self.mostPlainStates || (isAnyDead && !following.isEmpty) { return .some }
      }
    }
    return isAnyDead ? .none : .all(following.sorted())
  }
}
