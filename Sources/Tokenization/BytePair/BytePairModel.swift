/// Byte-pair encoding of a piece of text: the pair with the lowest rank merges first, of equal pairs the leftmost (Sennrich
/// et al., 2016; with scores instead of ranks: Kudo and Richardson, 2018).
struct BytePairModel: Sendable {
  /// The symbols that a piece consists of before merging.
  enum Alphabet: Sendable {
    /// Bytes. The id of each; −1 if the vocabulary has none.
    case bytes([Int32])
    /// Unicode scalars. Those that are no token are replaced as the fallback says.
    case scalars(ScalarFallback)
  }

  /// What replaces a scalar that is no token: its UTF-8 bytes, or the unknown token.
  struct ScalarFallback: Sendable {
    /// The ids of <0x00> to <0xFF>, −1 if the vocabulary has none; empty without byte fallback.
    var byteTokens: [Int32]
    var unknown: Int32?
    /// Whether a run of unknown scalars becomes one unknown token.
    var fusesUnknown: Bool
  }

  enum Rule: Sendable {
    case pairs(MergeTable)
    /// Two neighbours merge if their texts together are a token of `pieces`. The rank of each id.
    case scores([UInt32])
  }

  let alphabet: Alphabet
  let rule: Rule
  /// Ids by their text: of scalars, for `scores`, and for `takesWholePieces`.
  let pieces: ByteStringTable
  /// Whether a piece that is a token becomes that token without merging (tokenizer.json's `ignore_merges`).
  let takesWholePieces: Bool
  /// Whether text can be split before U+2581 without changing a token: no token has U+2581 after something else.
  let cutsAtMetaspace: Bool

  /// Longer pieces are split here, which bounds the memory of merging: about 20 bytes for each byte of text.
  static let longestPiece = 16 << 20
  /// Up to so many symbols, a scan over all pairs is faster than a heap.
  private static let longestScan = 48

  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch, into ids: inout [Int32]) {
    guard cutsAtMetaspace else { return encodeBounded(piece, scratch, into: &ids) }
    var start = 0
    var next = 1
    while next + 2 < piece.count {
      if piece[next] == 0xE2, piece[next + 1] == 0x96, piece[next + 2] == 0x81 {
        let isRun = next - start >= 3 && piece[next - 3] == 0xE2 && piece[next - 2] == 0x96 && piece[next - 1] == 0x81
        if !isRun {
          encodeBounded(UnsafeBufferPointer(rebasing: piece[start..<next]), scratch, into: &ids)
          start = next
        }
        next += 3
      } else {
        next += 1
      }
    }
    encodeBounded(UnsafeBufferPointer(rebasing: piece[start...]), scratch, into: &ids)
  }

  private func encodeBounded(
    _ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch, into ids: inout [Int32]
  ) {
    var start = 0
    while start < piece.count {
      var end = min(piece.count, start + Self.longestPiece)
      while end < piece.count && piece[end] & 0xC0 == 0x80 { end -= 1 }
      encodeCached(UnsafeBufferPointer(rebasing: piece[start..<end]), scratch, into: &ids)
      start = end
    }
  }

  private func encodeCached(
    _ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch, into ids: inout [Int32]
  ) {
    let entry = scratch.cache.entry(for: piece)
    if let entry, scratch.cache.append(entry, to: &ids) { return }
    let first = ids.count
    if takesWholePieces, let id = pieces.id(of: piece) {
      ids.append(id)
    } else {
      start(piece, scratch)
      if scratch.ids.count <= Self.longestScan {
        mergeByScan(piece, scratch)
        emit(piece, scratch, into: &ids)
      } else {
        mergeByHeap(piece, scratch)
        emit(piece, scratch, into: &ids)
      }
    }
    if let entry { scratch.cache.store(piece, ids[first...], in: entry) }
  }

  // MARK: Symbols

  /// Fills `scratch.ids` and `scratch.starts` with the piece's symbols before merging.
  private func start(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch) {
    scratch.ids.removeAll(keepingCapacity: true)
    scratch.starts.removeAll(keepingCapacity: true)
    switch alphabet {
    case .bytes(let tokens):
      for (offset, byte) in piece.enumerated() where tokens[Int(byte)] >= 0 {
        scratch.ids.append(tokens[Int(byte)])
        scratch.starts.append(Int32(offset))
      }
    case .scalars(let fallback):
      startScalars(piece, fallback, scratch)
    }
  }

  private func startScalars(
    _ piece: UnsafeBufferPointer<UInt8>, _ fallback: ScalarFallback, _ scratch: EncodingScratch
  ) {
    var start = 0
    var inUnknown = false
    while start < piece.count {
      var end = start + 1
      while end < piece.count && piece[end] & 0xC0 == 0x80 { end += 1 }
      let scalar = UnsafeBufferPointer(rebasing: piece[start..<end])
      if let id = pieces.id(of: scalar) {
        scratch.append(id, start: start)
        inUnknown = false
      } else if case .scores = rule {
        // Its text may become part of a token. What remains without a token is replaced at the end.
        scratch.append(-1, start: start)
      } else if fallback.hasTokens(for: scalar) {
        for (offset, byte) in scalar.enumerated() {
          scratch.append(fallback.byteTokens[Int(byte)], start: start + offset)
        }
        inUnknown = false
      } else if let unknown = fallback.unknown {
        if !(inUnknown && fallback.fusesUnknown) { scratch.append(unknown, start: start) }
        inUnknown = true
      }
      start = end
    }
  }

  private func emit(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch, into ids: inout [Int32]) {
    guard case .scores = rule, case .scalars(let fallback) = alphabet else {
      ids.append(contentsOf: scratch.ids)
      return
    }
    var inUnknown = false
    for (index, id) in scratch.ids.enumerated() {
      if id >= 0 {
        ids.append(id)
        inUnknown = false
        continue
      }
      let end = index + 1 < scratch.starts.count ? Int(scratch.starts[index + 1]) : piece.count
      let scalar = UnsafeBufferPointer(rebasing: piece[Int(scratch.starts[index])..<end])
      if fallback.hasTokens(for: scalar) {
        for byte in scalar { ids.append(fallback.byteTokens[Int(byte)]) }
        inUnknown = false
      } else if let unknown = fallback.unknown {
        if !(inUnknown && fallback.fusesUnknown) { ids.append(unknown) }
        inUnknown = true
      }
    }
  }

  // MARK: Merging

  /// The rule for two neighbouring symbols; `nil` if they do not merge.
  /// - Parameters:
  ///   - start: the byte where the left symbol begins
  ///   - end: the byte where the right symbol ends
  @inline(__always)
  private func merge(
    _ left: Int32, _ right: Int32, start: Int, end: Int, in piece: UnsafeBufferPointer<UInt8>
  ) -> MergeTable.Rule? {
    switch rule {
    case .pairs(let table): return table.rule(left: left, right: right)
    case .scores(let ranks):
      guard end - start <= pieces.longest,
        let id = pieces.id(of: UnsafeBufferPointer(rebasing: piece[start..<end]))
      else { return nil }
      return MergeTable.Rule(rank: ranks[Int(id)], id: id)
    }
  }

  private func mergeByScan(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch) {
    /// The rule for symbols `index` and `index + 1`.
    func rule(at index: Int) -> MergeTable.Rule {
      let end = index + 2 < scratch.starts.count ? Int(scratch.starts[index + 2]) : piece.count
      return merge(
        scratch.ids[index], scratch.ids[index + 1], start: Int(scratch.starts[index]), end: end, in: piece)
        ?? MergeTable.Rule(rank: .max, id: -1)
    }
    scratch.rules.removeAll(keepingCapacity: true)
    for index in 0..<max(0, scratch.ids.count - 1) { scratch.rules.append(rule(at: index)) }
    while true {
      var best = -1
      var bestRank = UInt32.max
      for (index, rule) in scratch.rules.enumerated() where rule.id >= 0 && (best < 0 || rule.rank < bestRank) {
        best = index
        bestRank = rule.rank
      }
      if best < 0 { return }
      scratch.ids[best] = scratch.rules[best].id
      scratch.ids.remove(at: best + 1)
      scratch.starts.remove(at: best + 1)
      scratch.rules.remove(at: best)
      if best < scratch.rules.count { scratch.rules[best] = rule(at: best) }
      if best > 0 { scratch.rules[best - 1] = rule(at: best - 1) }
    }
  }

  private func mergeByHeap(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch) {
    let count = scratch.ids.count
    scratch.previous.removeAll(keepingCapacity: true)
    scratch.next.removeAll(keepingCapacity: true)
    for index in 0..<count {
      scratch.previous.append(Int32(index - 1))
      scratch.next.append(Int32(index + 1))
    }
    func rule(at index: Int) -> MergeTable.Rule? {
      let right = Int(scratch.next[index])
      if right >= count { return nil }
      let after = Int(scratch.next[right])
      let end = after < count ? Int(scratch.starts[after]) : piece.count
      return merge(scratch.ids[index], scratch.ids[right], start: Int(scratch.starts[index]), end: end, in: piece)
    }
    scratch.heap.removeAll()
    for index in 0..<count {
      if let rule = rule(at: index) { scratch.heap.append(rank: rule.rank, position: index) }
    }
    scratch.heap.order()
    while let (rank, index) = scratch.heap.popFirst() {
      // The entry may be out of date: the symbol was merged into another, or its pair has changed and has another rank.
      guard scratch.next[index] >= 0, let merged = rule(at: index), merged.rank == rank else { continue }
      let right = Int(scratch.next[index])
      let after = scratch.next[right]
      scratch.ids[index] = merged.id
      scratch.next[index] = after
      scratch.next[right] = -1
      if Int(after) < count { scratch.previous[Int(after)] = Int32(index) }
      if let next = rule(at: index) { scratch.heap.insert(rank: next.rank, position: index) }
      let before = Int(scratch.previous[index])
      if before >= 0, let next = rule(at: before) { scratch.heap.insert(rank: next.rank, position: before) }
    }
    var kept = 0
    var index = 0
    while index < count {
      scratch.ids[kept] = scratch.ids[index]
      scratch.starts[kept] = scratch.starts[index]
      kept += 1
      index = Int(scratch.next[index])
    }
    scratch.ids.removeLast(count - kept)
    scratch.starts.removeLast(count - kept)
  }
}

extension BytePairModel.ScalarFallback {
  fileprivate func hasTokens(for scalar: UnsafeBufferPointer<UInt8>) -> Bool {
    !byteTokens.isEmpty && scalar.allSatisfy { byteTokens[Int($0)] >= 0 }
  }
}
