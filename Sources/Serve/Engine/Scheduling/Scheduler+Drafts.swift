import Kernels

/// How many rows of a pass are given to drafts.
extension Scheduler {
  /// Gives a pass in which all sequences decode further rows for their drafts: as many as make the most tokens in the
  /// least time. The rows of a draft take no block that another sequence's next token needs. Background sequences that have
  /// rows beside others get none for drafts.
  /// - Parameters:
  ///   - rows: of each running sequence; changed
  ///   - freeBlocks: blocks that are left after those rows
  func allotDrafts(_ rows: inout [Int], freeBlocks: Int) {
    let onlyBackground = running.allSatisfy(\.isBackground)
    let decoders = running.indices.filter { rows[$0] > 0 && (onlyBackground || !running[$0].isBackground) }
    let planned = rows.reduce(0, +)
    guard !decoders.isEmpty, decoders.allSatisfy({ running[$0].pending == 1 }) else { return }
    var candidates: [(index: Int, probability: Double)] = []
    for index in decoders {
      let sequence = running[index].sequence
      var probability = 1.0
      for _ in 0..<min(sequence.draftLength, draftRoom(of: sequence, freeBlocks: freeBlocks)) {
        probability *= sequence.draftRate
        candidates.append((index, probability))
      }
    }
    // A stable order: of one sequence's rows, the first has the greatest probability.
    candidates.sort { ($1.probability, $0.index) < ($0.probability, $1.index) }
    let maximum = min(min(limits.rowBudget, limits.logitRows) - planned, affordableRows(decoders: planned))
    let useful = passCost.usefulRows(
      candidates.prefix(max(maximum, 0)).map(\.probability), beside: planned, tokens: decoders.count)
    for candidate in candidates.prefix(useful) { rows[candidate.index] += 1 }
  }

  /// Positions for a draft in the sequence's last block, or else in its share of the free blocks.
  private func draftRoom(of sequence: S, freeBlocks: Int) -> Int {
    let end = sequence.computed + 1
    let blocks = max(blockCount(covering: end), sequence.blockCount) + max(freeBlocks / running.count - 1, 0)
    return blocks * keyValueBlockLength - end
  }
}
