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
  /// - Parameter isLetter: of plain text only ASCII letters
  mutating func plainStep(after state: Int32, isLetter: Bool) throws(GrammarError) -> PlainStep {
    if let known = isLetter ? letterSteps[state] : plainSteps[state] { return known }
    let step = try findStep(after: state, isLetter ? start.letterSteps : start.plainSteps)
    if isLetter { letterSteps[state] = step } else { plainSteps[state] = step }
    return step
  }

  private mutating func findStep(
    after state: Int32, _ steps: [[(byteClass: Int, next: Int)]]
  ) throws(GrammarError) -> PlainStep {
    var following: Set<Int32> = []
    var isAnyDead = false
    /// States of the text and of reading UTF-8.
    var pending: [(state: Int32, reading: Int)] = [(state, 0)]
    var seen: Set<Int64> = []
    while let (state, reading) = pending.popLast() {
      for step in steps[reading] {
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
