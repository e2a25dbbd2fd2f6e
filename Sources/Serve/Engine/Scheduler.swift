/// Decides what the next forward pass computes. A value without clock or I/O: the same calls give the same answers.
///
/// Requests are admitted in the order of their arrival, each when its keys and values are certain to fit; a pass takes
/// one row of every running generation that decodes, and chunks of prompts up to a budget of rows.
struct Scheduler {
  struct Limits: Equatable {
    /// Most rows of one pass; at least 1.
    var rowBudget: Int
    /// Most generations that run at once.
    var running: Int
    /// Most rows whose logits are wanted at once; at least 1.
    var logitRows: Int
  }

  /// What the scheduler knows of a generation.
  private struct Entry {
    var id: GenerationID
    var promptLength: Int
    /// Tokens whose keys and values are computed, or will be when the pass that was handed out is done.
    var computed = 0
    /// Cache blocks that it may come to need.
    var blocks: Int
    var scoresPrompt: Bool
  }

  struct Slice: Equatable {
    var id: GenerationID
    /// Positions to compute: a chunk of the prompt, or the one token being decoded.
    var positions: Range<Int>
  }

  enum Action: Equatable {
    case step([Slice])
    case idle
  }

  private let limits: Limits
  private var freeBlocks: Int
  private var waiting: [Entry] = []
  private var running: [Entry] = []

  init(limits: Limits, blocks: Int) {
    self.limits = limits
    freeBlocks = blocks
  }

  var waitingCount: Int { waiting.count }
  var runningCount: Int { running.count }

  mutating func enqueue(_ id: GenerationID, promptLength: Int, blocks: Int, scoresPrompt: Bool) {
    waiting.append(Entry(id: id, promptLength: promptLength, blocks: blocks, scoresPrompt: scoresPrompt))
  }

  /// Ends a generation, running or waiting.
  mutating func remove(_ id: GenerationID) {
    if let index = running.firstIndex(where: { $0.id == id }) {
      freeBlocks += running[index].blocks
      running.remove(at: index)
    } else {
      waiting.removeAll { $0.id == id }
    }
  }

  /// The next pass. Whoever asks computes it before asking again, and removes what it ends.
  mutating func next() -> Action {
    admit()
    var rows = 0
    var slices: [Slice] = []
    let decodeLimit = decodeLimit
    for index in running.indices where running[index].computed >= running[index].promptLength {
      guard rows < decodeLimit else { break }
      slices.append(take(index, 1))
      rows += 1
    }
    var logitRows = slices.count
    for index in running.indices where running[index].computed < running[index].promptLength {
      let entry = running[index]
      guard logitRows < limits.logitRows else { break }
      var count = min(entry.promptLength - entry.computed, limits.rowBudget - rows)
      if entry.scoresPrompt { count = min(count, limits.logitRows - logitRows) }
      guard count > 0 else { break }
      slices.append(take(index, count))
      rows += count
      logitRows += entry.scoresPrompt ? count : 1
    }
    return slices.isEmpty ? .idle : .step(slices)
  }

  /// Most generations that decode in a pass: each wants a row of logits, and one is left to the oldest prompt, which
  /// would otherwise wait for as long as younger requests keep decoding.
  private var decodeLimit: Int {
    let limit = min(limits.rowBudget, limits.logitRows)
    return limit > 1 && running.contains { $0.computed < $0.promptLength } ? limit - 1 : limit
  }

  private mutating func admit() {
    while let first = waiting.first, running.count < limits.running, first.blocks <= freeBlocks {
      freeBlocks -= first.blocks
      running.append(first)
      waiting.removeFirst()
    }
  }

  private mutating func take(_ index: Int, _ count: Int) -> Slice {
    let from = running[index].computed
    running[index].computed += count
    return Slice(id: running[index].id, positions: from..<from + count)
  }
}
