import CKernels

/// One call of `Compute.attention`, and the three ways to divide its work among threads. All give the same bits.
///
/// Threads write to different memory, and read keys and values only after all those that they read are stored. The caller
/// keeps the memory alive.
struct AttentionLayer {
  let functions: graft_forward_kernels
  let layout: KeyValueLayout
  let rule: AttentionRule
  let layer: Int
  let rows: [AttentionRow]
  let queries: UnsafeMutablePointer<Float>
  let keys: UnsafeMutablePointer<Float>
  let values: UnsafePointer<Float>
  /// Floats from one row of queries, keys or values to the next.
  let ld: Int
  /// [position][rotarySize / 2]; `nil` rotates nothing.
  let cosine: UnsafePointer<Float>?
  let sine: UnsafePointer<Float>?
  let out: UnsafeMutablePointer<Float>

  private static let span = Int(GRAFT_SPAN)

  private var headSize: Int { layout.headSize }
  private var keyValueHeads: Int { layout.keyValueHeadCount }
  private var queriesPerHead: Int { layout.headCount / layout.keyValueHeadCount }

  // MARK: ways to divide the work

  /// For rows of different sequences: no row reads another row's key, so one task stores and attends.
  func storeAndAttend(_ pool: ThreadPool) {
    pool.run(count: rows.count * keyValueHeads, grain: 1) { range in
      for part in range {
        let (row, head) = part.quotientAndRemainder(dividingBy: keyValueHeads)
        store(row: row, head: head)
        attend(rows: row..<row + 1, head: head)
      }
    }
  }

  /// For rows that share sequences: the rows of neighbouring positions attend together, so that a key or a value is
  /// loaded once for all of them.
  func storeThenAttend(_ pool: ThreadPool) {
    pool.run(count: rows.count, grain: 4) { range in
      for row in range { for head in 0..<keyValueHeads { store(row: row, head: head) } }
    }
    let tiles = AttentionRow.tiles(
      rows, limit: max(1, min(16, graft_tile_queries(headSize) / queriesPerHead)))
    // Later rows of a sequence attend to more positions. Small ranges let the threads end together.
    pool.run(count: tiles.count * keyValueHeads, size: 1) { range in
      for part in range { attend(rows: tiles[part / keyValueHeads], head: part % keyValueHeads) }
    }
  }

  /// Whether there are so few rows that threads have enough work only if a long context is split.
  func isWorthSplitting(threads: Int) -> Bool {
    rows.count * keyValueHeads < 4 * threads && rows.contains { spans($0).count > 1 }
  }

  /// The spans that have positions which a row sees.
  private func spans(_ row: AttentionRow) -> Range<Int> {
    rule.firstVisible(from: row.position) / Self.span..<row.position / Self.span + 1
  }

  /// For few rows of different sequences with long contexts: each row's context is split into spans, which threads
  /// compute and then add up.
  func attendInSpans(_ pool: ThreadPool) {
    for row in rows.indices { for head in 0..<keyValueHeads { store(row: row, head: head) } }
    let spans = rows.map(spans)
    let longest = spans.map(\.count).max() ?? 1
    let partialSize = queriesPerHead * (headSize + 2)
    let count = rows.count * keyValueHeads * longest
    withUnsafeTemporaryAllocation(of: Float.self, capacity: count * partialSize) { memory in
      guard let partials = memory.baseAddress else { return }
      pool.run(count: count, size: 1) { range in
        for part in range {
          let (item, span) = part.quotientAndRemainder(dividingBy: longest)
          let (row, head) = item.quotientAndRemainder(dividingBy: keyValueHeads)
          guard span < spans[row].count else { continue }
          attend(row: row, head: head, span: spans[row].lowerBound + span, into: partials + part * partialSize)
        }
      }
      for row in rows.indices {
        for head in 0..<keyValueHeads {
          var attention = descriptor(rows[row])
          let first = partials + (row * keyValueHeads + head) * longest * partialSize
          functions.join_spans(&attention, first, spans[row].count, result(row: row, head: head))
        }
      }
    }
  }

  // MARK: tasks

  /// Rotates the key of one key-value head and the queries that read it, and stores the key and the value.
  private func store(row: Int, head: Int) {
    let position = rows[row].position
    let key = keys + row * ld + head * headSize
    if let cosine, let sine {
      let (c, s) = (cosine + position * rule.rotarySize / 2, sine + position * rule.rotarySize / 2)
      functions.rotate(
        query(row: row, head: head), heads: queriesPerHead, headSize: headSize, rotarySize: rule.rotarySize, c, s)
      functions.rotate(key, heads: 1, headSize: headSize, rotarySize: rule.rotarySize, c, s)
    }
    let block = rows[row].blocks[position / keyValueBlockLength]
    functions.store_kv(
      key, values + row * ld + head * headSize, layout.element.type, headSize, position % keyValueBlockLength,
      block + layout.offset(layer: layer, head: head))
  }

  /// Attends for rows of consecutive positions of one sequence.
  private func attend(rows range: Range<Int>, head: Int) {
    let first = range.lowerBound
    var attention = descriptor(rows[first])
    functions.attend(
      &attention, query(row: first, head: head), ld, range.count, rows[first].position + 1,
      layout.offset(layer: layer, head: head), result(row: first, head: head), layout.headCount * headSize)
  }

  /// Attends for one row to one span of positions.
  private func attend(row: Int, head: Int, span: Int, into partials: UnsafeMutablePointer<Float>) {
    var attention = descriptor(rows[row])
    let length = rows[row].position + 1
    functions.attend_span(
      &attention, query(row: row, head: head), length, layout.offset(layer: layer, head: head), span * Self.span,
      min((span + 1) * Self.span, length), partials)
  }

  private func descriptor(_ row: AttentionRow) -> graft_attention {
    graft_attention(
      blocks: UnsafeRawPointer(row.blocks).assumingMemoryBound(to: UnsafeRawPointer.self), type: layout.element.type,
      head_size: headSize, heads_per_group: queriesPerHead, scale: rule.scale, soft_cap: rule.softCap ?? 0,
      window: rule.window ?? 0)
  }

  private func query(row: Int, head: Int) -> UnsafeMutablePointer<Float> {
    queries + row * ld + head * queriesPerHead * headSize
  }

  private func result(row: Int, head: Int) -> UnsafeMutablePointer<Float> {
    out + (row * layout.headCount + head * queriesPerHead) * headSize
  }
}

extension graft_forward_kernels {
  /// Rotates the first `rotarySize` elements of each head, in place.
  /// - Parameter x: [heads][headSize]
  func rotate(
    _ x: UnsafeMutablePointer<Float>, heads: Int, headSize: Int, rotarySize: Int, _ cosine: UnsafePointer<Float>,
    _ sine: UnsafePointer<Float>
  ) {
    if rotarySize == headSize { return rope(x, heads, headSize, cosine, sine) }
    for head in 0..<heads { rope(x + head * headSize, 1, rotarySize, cosine, sine) }
  }
}
