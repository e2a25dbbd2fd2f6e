/// Memory that encoding one text needs, kept for the next one.
final class EncodingScratch: @unchecked Sendable {
  // Unchecked: one call at a time owns it, having taken it out of the tokenizer's locked pool.
  let workspace = SplitRegex.Workspace()
  let cache = PieceCache()
  /// The symbols of the piece in hand, and where in it each starts.
  var ids: [Int32] = []
  var starts: [Int32] = []
  /// The merges of neighbours, for short pieces.
  var rules: [MergeTable.Rule] = []
  /// A linked list of symbols and a queue of merges, for long ones. A `next` of −1: merged away.
  var previous: [Int32] = []
  var next: [Int32] = []
  var heap = MergeHeap()

  func append(_ id: Int32, start: Int) {
    ids.append(id)
    starts.append(Int32(truncatingIfNeeded: start))
  }

  /// Whether it has grown by a long text beyond what is worth keeping.
  var isLarge: Bool { max(ids.capacity, heap.capacity) > 1 << 18 }
}

/// Merges waiting, the lowest rank first, then the leftmost (a binary heap).
struct MergeHeap {
  /// Rank in the upper half, position in the lower.
  private var entries: [UInt64] = []

  var capacity: Int { entries.capacity }

  private static func entry(_ rank: UInt32, _ position: Int) -> UInt64 {
    UInt64(rank) << 32 | UInt64(UInt32(truncatingIfNeeded: position))
  }

  mutating func removeAll() { entries.removeAll(keepingCapacity: true) }

  /// Adds without ordering; `order()` makes a heap of all that was added.
  mutating func append(rank: UInt32, position: Int) { entries.append(Self.entry(rank, position)) }

  mutating func order() {
    for index in stride(from: entries.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
  }

  mutating func insert(rank: UInt32, position: Int) {
    let entry = Self.entry(rank, position)
    var index = entries.count
    entries.append(entry)
    while index > 0 {
      let parent = (index - 1) / 2
      if entries[parent] <= entry { break }
      entries[index] = entries[parent]
      index = parent
    }
    entries[index] = entry
  }

  mutating func popFirst() -> (rank: UInt32, position: Int)? {
    guard let last = entries.popLast() else { return nil }
    var first = last
    if !entries.isEmpty {
      first = entries[0]
      entries[0] = last
      siftDown(0)
    }
    return (UInt32(truncatingIfNeeded: first >> 32), Int(UInt32(truncatingIfNeeded: first)))
  }

  private mutating func siftDown(_ start: Int) {
    let entry = entries[start]
    var index = start
    while true {
      var child = 2 * index + 1
      if child >= entries.count { break }
      if child + 1 < entries.count && entries[child + 1] < entries[child] { child += 1 }
      if entries[child] >= entry { break }
      entries[index] = entries[child]
      index = child
    }
    entries[index] = entry
  }
}

/// The ids of pieces met lately: a fixed number of places, the later piece displacing the earlier.
final class PieceCache {
  private static let places = 1 << 14
  private static let longestPiece = 30
  private static let mostIDs = 8
  /// A place: length, count, the piece's bytes; the ids from byte 32 on. A length of 0: vacant.
  private static let stride = 32 + mostIDs * MemoryLayout<Int32>.size

  private let memory: UnsafeMutableRawPointer

  init() {
    memory = .allocate(byteCount: Self.places * Self.stride, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.places * Self.stride)
  }

  deinit { memory.deallocate() }

  /// A place in the cache, which this piece holds or may take.
  struct Entry {
    fileprivate let place: UnsafeMutableRawPointer
    fileprivate let isHit: Bool
  }

  /// `nil` for a piece too long to be kept.
  func entry(for piece: UnsafeBufferPointer<UInt8>) -> Entry? {
    guard piece.count <= Self.longestPiece, piece.count > 0 else { return nil }
    let index = Int(truncatingIfNeeded: TableHash.bytes(piece)) & (Self.places - 1)
    let place = memory + index * Self.stride
    guard Int(place.load(as: UInt8.self)) == piece.count else { return Entry(place: place, isHit: false) }
    let kept = UnsafeRawBufferPointer(start: place + 2, count: piece.count)
    return Entry(place: place, isHit: kept.elementsEqual(piece))
  }

  /// Appends what is kept at `entry`; false if it is not this piece's.
  func append(_ entry: Entry, to ids: inout [Int32]) -> Bool {
    guard entry.isHit else { return false }
    let count = Int(entry.place.load(fromByteOffset: 1, as: UInt8.self))
    for index in 0..<count { ids.append(entry.place.load(fromByteOffset: 32 + 4 * index, as: Int32.self)) }
    return true
  }

  func store(_ piece: UnsafeBufferPointer<UInt8>, _ ids: ArraySlice<Int32>, in entry: Entry) {
    guard ids.count <= Self.mostIDs, let bytes = piece.baseAddress else { return }
    entry.place.storeBytes(of: UInt8(piece.count), as: UInt8.self)
    entry.place.storeBytes(of: UInt8(ids.count), toByteOffset: 1, as: UInt8.self)
    (entry.place + 2).copyMemory(from: bytes, byteCount: piece.count)
    for (index, id) in ids.enumerated() {
      entry.place.storeBytes(of: id, toByteOffset: 32 + 4 * index, as: Int32.self)
    }
  }
}
