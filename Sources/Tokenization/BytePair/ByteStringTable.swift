/// Hash functions for tables of tokens. Each process draws its own random multipliers, so the author of a vocabulary cannot
/// choose tokens whose hashes collide, which would make every look-up slow.
enum TableHash {
  private static let multiplier = UInt64.random(in: .min ... .max) | 1
  private static let seed = UInt64.random(in: .min ... .max)

  static func key(_ key: UInt64) -> UInt64 {
    let product = (key ^ seed).multipliedFullWidth(by: multiplier)
    return product.high ^ product.low
  }

  static func bytes(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
    guard let base = UnsafeRawPointer(bytes.baseAddress) else { return 0 }
    let count = bytes.count
    var hash = seed ^ UInt64(count)
    var offset = 0
    while offset + 8 <= count {
      hash = mix(hash, base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      offset += 8
    }
    var rest: UInt64 = 0
    while offset < count {
      rest = rest << 8 | UInt64(base.load(fromByteOffset: offset, as: UInt8.self))
      offset += 1
    }
    return mix(hash, rest)
  }

  private static func mix(_ hash: UInt64, _ word: UInt64) -> UInt64 {
    let product = (hash ^ word).multipliedFullWidth(by: multiplier)
    return product.high &+ product.low
  }
}

/// Byte strings by token id, in one array, and ids by byte string, in an open-addressing hash table that is at most half
/// full.
struct ByteStringTable: Sendable {
  private var storage: [UInt8] = []
  /// String `id` is `storage[starts[id]..<starts[id + 1]]`.
  private var starts: [UInt32] = [0]
  /// Ids, or −1 for a free slot. The count is a power of two.
  private var slots: [Int32] = []
  private(set) var longest = 0

  /// - Parameters:
  ///   - strings: of each id from 0; `nil` for an id without one
  ///   - isKey: whether `id(of:)` finds an id. Of ids with equal strings it finds the last.
  init(_ strings: [[UInt8]?], isKey: (Int) -> Bool) {
    starts.reserveCapacity(strings.count + 1)
    storage.reserveCapacity(strings.count * 8)
    for string in strings {
      if let string { storage.append(contentsOf: string) }
      starts.append(UInt32(clamping: storage.count))
    }
    var capacity = 16
    while capacity < strings.count * 2 { capacity *= 2 }
    slots = Array(repeating: -1, count: capacity)
    for (id, string) in strings.enumerated() where string?.isEmpty == false && isKey(id) {
      insert(Int32(id))
    }
  }

  private mutating func insert(_ id: Int32) {
    storage.withUnsafeBufferPointer { storage in
      let bytes = UnsafeBufferPointer(rebasing: storage[range(of: id)])
      longest = max(longest, bytes.count)
      let slot = slot(of: bytes, in: storage)
      slots[slot] = id
    }
  }

  private func range(of id: Int32) -> Range<Int> { Int(starts[Int(id)])..<Int(starts[Int(id) + 1]) }

  /// The slot that holds a string, or the free one for it.
  private func slot(of bytes: UnsafeBufferPointer<UInt8>, in storage: UnsafeBufferPointer<UInt8>) -> Int {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: TableHash.bytes(bytes)) & mask
    while slots[slot] >= 0 {
      let range = range(of: slots[slot])
      if range.count == bytes.count, storage[range].elementsEqual(bytes) { break }
      slot = (slot + 1) & mask
    }
    return slot
  }

  func id(of bytes: UnsafeBufferPointer<UInt8>) -> Int32? {
    if bytes.isEmpty || bytes.count > longest { return nil }
    let id = storage.withUnsafeBufferPointer { slots[slot(of: bytes, in: $0)] }
    return id < 0 ? nil : id
  }

  func id(of bytes: [UInt8]) -> Int32? { bytes.withUnsafeBufferPointer { id(of: $0) } }

  /// The string of an id, empty if it has none. The id must be below the count given to `init`.
  subscript(id: Int32) -> ArraySlice<UInt8> { storage[range(of: id)] }
}
