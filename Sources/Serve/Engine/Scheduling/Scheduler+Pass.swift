import Kernels

/// How many rows each running sequence has got in a pass, and how many the pass can still give.
private struct RowAllotment {
  /// The rows of each sequence, by its index in `running`.
  var rows: [Int]
  var rowsLeft: Int
  var logitRowsLeft: Int
}

/// Planning of a forward pass.
extension Scheduler {
  /// The minimum rows for prompts in a pass in which other sequences decode.
  static var minimumChunk: Int { 16 }

  /// Plans a pass within the free blocks, or preempts a sequence if too few are free.
  mutating func planPass(freeBlocks: Int) -> Action {
    var (rows, decoder) = allotRows()
    var left = freeBlocks
    for index in running.indices where rows[index] > 0 {
      let sequence = running[index].sequence
      let room = (sequence.blockCount + left) * keyValueBlockLength - sequence.computed
      guard room > 0 else { return preempt() }
      rows[index] = min(rows[index], room)
      left -= max(blockCount(covering: sequence.computed + rows[index]) - sequence.blockCount, 0)
    }
    payBackground(rows)
    allotDrafts(&rows, freeBlocks: left)
    passes += 1
    lastDecoder = decoder
    var chunks: [Chunk] = []
    chunks.reserveCapacity(running.count)
    for index in running.indices where rows[index] > 0 { chunks.append(chunk(of: index, rows: rows[index])) }
    return .step(chunks)
  }

  private mutating func chunk(of index: Int, rows: Int) -> Chunk {
    let entry = running[index]
    let first = entry.sequence.computed
    let positions = first..<first + rows
    running[index].lastPass = passes
    charge(entry, rows: rows)
    if let group = entry.sequence.groupID, positions.upperBound >= entry.sequence.promptLength {
      dissolve(group: group, leader: entry.id)
    }
    return Chunk(sequence: entry.sequence, positions: positions)
  }

  /// How many rows each running sequence gets if there are enough blocks, and the admission number of the last decoder
  /// in turn.
  private func allotRows() -> (rows: [Int], lastDecoder: UInt64) {
    var (decoders, prompts): ([Int], [Int]) = ([], [])
    let onlyBackground = running.allSatisfy(\.isBackground)
    var allotment = RowAllotment(
      rows: [Int](repeating: 0, count: running.count), rowsLeft: limits.rowBudget, logitRowsLeft: limits.logitRows)
    if !onlyBackground { allotOwedRows(&allotment) }
    for index in running.indices where onlyBackground || !running[index].isBackground {
      if running[index].pending == 1 { decoders.append(index) } else { prompts.append(index) }
    }
    // Prompts keep an eighth of the pass, at least one row, however many sequences decode.
    let maximum = min(allotment.rowsLeft, allotment.logitRowsLeft)
    if maximum <= 0 { return (allotment.rows, lastDecoder) }
    let kept = prompts.isEmpty || maximum == 1 ? 0 : max(maximum / 8, 1)
    // With one row a pass, prompts and decoders take turns.
    if maximum == 1, !decoders.isEmpty, let prompt = prompts.first {
      if running[prompt].lastPass < passes { decoders = [] } else { prompts = [] }
    }
    var decoder = lastDecoder
    if decoders.count > maximum - kept {
      // Round robin.
      let first = decoders.firstIndex { running[$0].admission > lastDecoder } ?? 0
      decoders = Array((decoders[first...] + decoders[..<first]).prefix(maximum - kept))
      if let last = decoders.last { decoder = running[last].admission }
    }
    allotment.rowsLeft -= decoders.count
    allotment.logitRowsLeft -= decoders.count
    for index in decoders { allotment.rows[index] = 1 }
    if !decoders.isEmpty { allotment.rowsLeft = min(allotment.rowsLeft, affordableRows(decoders: decoders.count)) }
    allotPrompts(prompts, &allotment)
    return (allotment.rows, decoder)
  }

  /// Gives background sequences the rows that they are owed, the oldest first.
  private func allotOwedRows(_ allotment: inout RowAllotment) {
    var owed = Int(backgroundCredit)
    for index in running.indices where running[index].isBackground && owed > 0 {
      give(owed, to: index, of: &allotment)
      owed -= allotment.rows[index]
    }
  }

  /// Counts a planned pass: background sequences are owed a share of the others' rows, and got their own. What they are owed
  /// does not grow while there are none, beyond the share of one pass.
  private mutating func payBackground(_ rows: [Int]) {
    let own = zip(running, rows).reduce(0) { $0 + ($1.0.isBackground ? $1.1 : 0) }
    let others = rows.reduce(-own, +)
    if others == 0, own > 0, running.allSatisfy(\.isBackground) { return }
    let maximum = 1 + limits.backgroundShare * Double(limits.rowBudget)
    let earned = limits.backgroundShare * Double(others)
    backgroundCredit = min(max(backgroundCredit - Double(own), 0) + earned, maximum)
  }

  /// How many rows of prompts keep a pass within `stepTarget`, in addition to one row for each decoder.
  func affordableRows(decoders: Int) -> Int {
    guard let target = limits.stepTarget, let secondsPerRow else { return .max }
    // Training's share of the time between passes counts too.
    let affordable = min(target / .seconds(1) * (1 - trainingShare) / secondsPerRow, Double(limits.rowBudget))
    return max(Int(affordable) - decoders, Self.minimumChunk)
  }

  /// Gives the oldest prompt a quarter of the remaining rows, so that it always progresses. The others go to the
  /// prompts whose client and adapters have the minimum of computed rows, and among equals to the shortest prompt.
  private func allotPrompts(_ prompts: [Int], _ allotment: inout RowAllotment) {
    guard let oldest = prompts.first else { return }
    give(max(allotment.rowsLeft / 4, 1), to: oldest, of: &allotment)
    let services = prompts.map { queue.service(running[$0].stream) }
    let order = prompts.indices.sorted { a, b in
      let (first, second) = (running[prompts[a]], running[prompts[b]])
      return (services[a].client, services[a].stream, first.pending, first.admission)
        < (services[b].client, services[b].stream, second.pending, second.admission)
    }
    for prompt in order.map({ prompts[$0] }) {
      if let (leader, common) = leader(of: prompt, among: prompts, rows: allotment.rows) {
        give(common - running[leader].sequence.computed - allotment.rows[leader], to: leader, of: &allotment)
      } else {
        give(allotment.rowsLeft, to: prompt, of: &allotment)
      }
    }
  }

  /// A prompt that, in this pass, computes the block which `prompt` needs next, and how many first tokens the two have
  /// in common.
  private func leader(of prompt: Int, among prompts: [Int], rows: [Int]) -> (index: Int, common: Int)? {
    let sequence = running[prompt].sequence
    let first = sequence.computed / keyValueBlockLength * keyValueBlockLength
    guard rows[prompt] == 0 else { return nil }
    for other in prompts where rows[other] > 0 && running[other].sequence.computed >= first {
      let common = sequence.reusableTokens(from: running[other].sequence)
      if common >= first + keyValueBlockLength { return (other, common) }
    }
    return nil
  }

  /// Gives a sequence up to `maximum` more rows, if it needs them and the pass still has them.
  private func give(_ maximum: Int, to index: Int, of allotment: inout RowAllotment) {
    let (sequence, given) = (running[index].sequence, allotment.rows[index])
    var count = min(sequence.pending - given, maximum, allotment.rowsLeft)
    let scores = sequence.scoresPrompt && sequence.computed < sequence.promptLength
    if scores {
      count = min(count, allotment.logitRowsLeft)
    } else if given == 0, allotment.logitRowsLeft <= 0 {
      count = 0
    }
    guard count > 0 else { return }
    // A chunk that is not scored needs the logits of its last row at most.
    allotment.logitRowsLeft -= scores ? count : given == 0 ? 1 : 0
    allotment.rows[index] += count
    allotment.rowsLeft -= count
  }
}
