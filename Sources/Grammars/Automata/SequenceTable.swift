/// Sequences of numbers, each stored once and known by its position.
///
/// The automata identify their states by what the states consist of. The table makes equal contents one state.
struct SequenceTable {
  private var contents: [Int32] = []
  private var ends: [Int] = []
  /// Open addressing: the positions of the sequences, or -1. The size is a power of two.
  private var slots = [Int32](repeating: -1, count: 64)

  /// How many sequences there are.
  var count: Int { ends.count }
  /// How many numbers all sequences have.
  var size: Int { contents.count }

  /// About how many bytes the table takes.
  var memory: Int { 4 * contents.capacity + 8 * ends.capacity + 4 * slots.count }

  /// Where the numbers of a sequence are, for `number(at:)`.
  func range(_ index: Int32) -> Range<Int> {
    let index = Int(index)
    return (index == 0 ? 0 : ends[index - 1])..<ends[index]
  }

  /// One number of the sequences.
  func number(at position: Int) -> Int32 { contents[position] }

  /// A sequence's numbers.
  subscript(index: Int32) -> ArraySlice<Int32> { contents[range(index)] }

  /// The position of a sequence, which is added if it is new.
  mutating func intern(_ sequence: [Int32]) -> (index: Int32, isNew: Bool) {
    let slot = slot(of: sequence)
    if slots[slot] >= 0 { return (slots[slot], false) }
    let index = Int32(ends.count)
    contents.append(contentsOf: sequence)
    ends.append(contents.count)
    slots[slot] = index
    if 2 * ends.count > slots.count { grow() }
    return (index, true)
  }

  /// The slot that holds the sequence, or the free one where it belongs.
  private func slot(of sequence: [Int32]) -> Int {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: SequenceTable.hash(sequence[...])) & mask
    while slots[slot] >= 0, !isEqual(slots[slot], sequence) { slot = (slot + 1) & mask }
    return slot
  }

  private func isEqual(_ index: Int32, _ sequence: [Int32]) -> Bool {
    let range = range(index)
    guard range.count == sequence.count else { return false }
    for offset in 0..<sequence.count where contents[range.lowerBound + offset] != sequence[offset] { return false }
    return true
  }

  private mutating func grow() {
    slots = [Int32](repeating: -1, count: 2 * slots.count)
    let mask = slots.count - 1
    for index in 0..<Int32(ends.count) {
      var slot = Int(truncatingIfNeeded: SequenceTable.hash(self[index])) & mask
      while slots[slot] >= 0 { slot = (slot + 1) & mask }
      slots[slot] = index
    }
  }

  private static func hash(_ sequence: ArraySlice<Int32>) -> UInt64 {
    var hash: UInt64 = 0x9E37_79B9_7F4A_7C15 ^ UInt64(sequence.count)
    for number in sequence {
      hash = (hash ^ UInt64(UInt32(bitPattern: number))) &* 0xD6E8_FEB8_6659_FD93
      hash ^= hash >> 32
    }
    return hash
  }
}
