/// The lines of a batch that the server had no place for. Each is tried again later, so that one of them holds up no other
/// line. A value without a clock: the caller gives the time.
struct RefusedLines {
  private struct Entry {
    var line: BatchLine
    var retryAt: Duration
  }

  /// How many counted refusals a line may have.
  static let maximumRefusals = 16
  private static let longestDelay = Duration.seconds(60)

  private var entries: [Entry] = []
  /// How often each line was refused, by its number.
  private var refusals: [Int: Int] = [:]

  var count: Int { entries.count }
  var isEmpty: Bool { entries.isEmpty }

  /// Keeps a line that was refused, to be tried again after a second, then two, four, and so on, up to a minute.
  /// - Parameters:
  ///   - wasAlone: no other line of its batch ran. Only then is the refusal counted, because a line that was refused beside
  ///     others gets its place when these are done.
  ///   - waitsForOthers: only other requests are the cause. Such a refusal is not counted either.
  /// - Returns: false if so many refusals of the line were counted that it is given up
  mutating func add(_ line: BatchLine, wasAlone: Bool, waitsForOthers: Bool = false, now: Duration) -> Bool {
    let count = refusals[line.number, default: 0] + (wasAlone && !waitsForOthers ? 1 : 0)
    guard count < Self.maximumRefusals else {
      refusals[line.number] = nil
      return false
    }
    refusals[line.number] = count
    let delay = Duration.seconds(1 << max(count - 1, 0))
    entries.append(Entry(line: line, retryAt: now + min(delay, Self.longestDelay)))
    return true
  }

  /// Removes the lines whose time has come, and returns them in the order of their refusals.
  mutating func takeDue(now: Duration) -> [BatchLine] {
    let due = entries.filter { $0.retryAt <= now }.map(\.line)
    entries.removeAll { $0.retryAt <= now }
    return due
  }

  /// Forgets how often a line was refused, since it has a result.
  mutating func forget(_ line: BatchLine) { refusals[line.number] = nil }
}
