/// The memory that encoding a text needs, reused for later texts.
///
/// `@unchecked Sendable`: the tokenizer's locked pool gives it to one call at a time.
final class EncodingScratch: @unchecked Sendable {
  let workspace = SplitRegex.Workspace()
  let cache = PieceCache()
  /// The symbols of the current piece, and the byte where each begins.
  var ids: [Int32] = []
  var starts: [Int32] = []
  /// The rules of neighbouring symbols, for short pieces.
  var rules: [MergeTable.Rule] = []
  /// For long pieces, a linked list of symbols; a `next` of −1 marks a symbol that was merged into another.
  var previous: [Int32] = []
  var next: [Int32] = []
  var heap = MergeHeap()
  /// For unigram models, the best split up to each position of the piece: its score, and where its last token begins and
  /// which one that is.
  var pathScores: [Double] = []
  var pathStarts: [Int32] = []
  var pathIDs: [Int32] = []

  func append(_ id: Int32, start: Int) {
    ids.append(id)
    starts.append(Int32(truncatingIfNeeded: start))
  }

  /// Whether a long text has made it too large to be kept.
  var isLarge: Bool { max(ids.capacity, heap.capacity, pathIDs.capacity) > 1 << 18 }
}

/// A priority queue of merges: the lowest rank first, then the leftmost (a binary heap).
struct MergeHeap {
  /// The rank is the upper half, the position the lower.
  private var entries: [UInt64] = []

  var capacity: Int { entries.capacity }

  private static func entry(_ rank: UInt32, _ position: Int) -> UInt64 {
    UInt64(rank) << 32 | UInt64(UInt32(truncatingIfNeeded: position))
  }

  mutating func removeAll() { entries.removeAll(keepingCapacity: true) }

  /// Adds a merge without ordering; `order()` makes a heap of all that were added.
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

/// A cache of the ids of recent pieces, with a fixed number of slots; a later piece replaces an earlier one in its slot.
final class PieceCache {
  private static let places = 1 << 14
  private static let longestPiece = 30
  private static let maximumIDs = 8
  /// Bytes of a slot: the piece's length, the count of ids, the piece's bytes; from byte 32 on the ids. A length of 0 marks
  /// a free slot.
  private static let stride = 32 + maximumIDs * MemoryLayout<Int32>.size

  private let memory: UnsafeMutableRawPointer

  init() {
    memory = .allocate(byteCount: Self.places * Self.stride, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.places * Self.stride)
  }

  deinit { memory.deallocate() }

  /// The slot of a piece, which holds the piece or another one.
  struct Entry {
    fileprivate let place: UnsafeMutableRawPointer
    fileprivate let isHit: Bool
  }

  /// The slot of a piece; `nil` for a piece that is too long to be cached.
  func entry(for piece: UnsafeBufferPointer<UInt8>) -> Entry? {
    guard piece.count <= Self.longestPiece, piece.count > 0 else { return nil }
    let index = Int(truncatingIfNeeded: TableHash.bytes(piece)) & (Self.places - 1)
    let place = memory + index * Self.stride
    guard Int(place.load(as: UInt8.self)) == piece.count else { return Entry(place: place, isHit: false) }
    let kept = UnsafeRawBufferPointer(start: place + 2, count: piece.count)
    return Entry(place: place, isHit: kept.elementsEqual(piece))
  }

  /// Appends the ids in a slot.
  /// - Returns: false if the slot holds another piece
  func append(_ entry: Entry, to ids: inout [Int32]) -> Bool {
    guard entry.isHit else { return false }
    let count = Int(entry.place.load(fromByteOffset: 1, as: UInt8.self))
    for index in 0..<count { ids.append(entry.place.load(fromByteOffset: 32 + 4 * index, as: Int32.self)) }
    return true
  }

  func store(_ piece: UnsafeBufferPointer<UInt8>, _ ids: ArraySlice<Int32>, in entry: Entry) {
    guard ids.count <= Self.maximumIDs, let bytes = piece.baseAddress else { return }
    entry.place.storeBytes(of: UInt8(piece.count), as: UInt8.self)
    entry.place.storeBytes(of: UInt8(ids.count), toByteOffset: 1, as: UInt8.self)
    (entry.place + 2).copyMemory(from: bytes, byteCount: piece.count)
    for (index, id) in ids.enumerated() {
      entry.place.storeBytes(of: id, toByteOffset: 32 + 4 * index, as: Int32.self)
    }
  }
}
