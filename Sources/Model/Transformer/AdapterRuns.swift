import Kernels

extension ForwardBatch {
  /// Neighbouring segments with the same adapters.
  struct AdapterRun {
    var adapters: AdapterSet
    /// The segments' rows in the batch, or among those of its rows that are wanted.
    var rows: Range<Int>
  }

  /// For each segment, whether one of its rows is marked.
  func segmentsWithAny(of rows: [Bool]) -> [Bool] {
    var row = 0
    return segments.map { segment in
      defer { row += segment.tokens.count }
      return rows[row..<row + segment.tokens.count].contains(true)
    }
  }

  /// The runs of all rows.
  var adapterRuns: [AdapterRun] { runs { $0.tokens.count } }

  /// The runs of some rows of each segment, in the order in which results are given.
  func adapterRuns(of wanted: KeyPath<Segment, Range<Int>>) -> [AdapterRun] { runs { $0[keyPath: wanted].count } }

  private func runs(_ rowCount: (Segment) -> Int) -> [AdapterRun] {
    var runs: [AdapterRun] = []
    var row = 0
    for segment in segments {
      let rows = row..<row + rowCount(segment)
      if rows.isEmpty { continue }
      if let last = runs.last, last.adapters == segment.adapters {
        runs[runs.count - 1].rows = last.rows.lowerBound..<rows.upperBound
      } else {
        runs.append(AdapterRun(adapters: segment.adapters, rows: rows))
      }
      row = rows.upperBound
    }
    return runs
  }

  /// Marks the segments with a result that is not finite. Only results are looked at that adapters change after the layers:
  /// the base's are finite where the hidden states are.
  /// - Parameters:
  ///   - results: of the wanted rows
  ///   - count: values of a result
  func mark(
    _ segments: inout [Bool], whereNotFinite results: Rows, count: Int, of wanted: KeyPath<Segment, Range<Int>>
  ) {
    var row = 0
    for (index, segment) in self.segments.enumerated() {
      let rows = row..<row + segment[keyPath: wanted].count
      row = rows.upperBound
      let isChanged = segment.adapters.terms.contains {
        $0.adapter.others?.head != nil || $0.adapter.others?[.last] != nil
      }
      guard isChanged else { continue }
      let areFinite = rows.allSatisfy { row in
        Compute.allMagnitudes(
          of: results.pointer + row * results.stride, count: count, areAtMost: .greatestFiniteMagnitude)
      }
      if !areFinite { segments[index] = true }
    }
  }
}

extension [ForwardBatch.AdapterRun] {
  /// Calls `body` with ranges of rows that have the same weights of a norm: the base's, or those of their adapters.
  /// - Parameters:
  ///   - weight: the base's, [size]
  ///   - rows: of all runs
  func forEachWeight(
    of norm: OtherChanges.NormKey, _ weight: UnsafePointer<Float>, size: Int, rows: Int,
    _ body: (Range<Int>, UnsafePointer<Float>) -> Void
  ) {
    guard contains(where: { $0.adapters.terms.contains { $0.adapter.others?.changesNorms == true } }) else {
      return body(0..<rows, weight)
    }
    for run in self {
      let changes = run.adapters.terms.compactMap { term in
        term.adapter.others?[norm].map { (weight: term.weight, change: $0) }
      }
      guard !changes.isEmpty else {
        body(run.rows, weight)
        continue
      }
      withUnsafeTemporaryAllocation(of: Float.self, capacity: size) { sum in
        guard let start = sum.baseAddress else { return }
        for i in 0..<size { start[i] = changes.reduce(weight[i]) { $0 + $1.weight * $1.change[i] } }
        body(run.rows, UnsafePointer(start))
      }
    }
  }
}

extension ChangedTokens {
  /// Adds weight · change to the logits of the tokens.
  /// - Parameters:
  ///   - changes: [count]
  ///   - logits: [vocabularySize]
  func add(_ changes: UnsafePointer<Float>, weight: Float, to logits: UnsafeMutablePointer<Float>) {
    for i in 0..<count { logits[Int(ids[i])] += weight * changes[i] }
  }
}

extension LowRankUpdate {
  /// - Parameters:
  ///   - rows: that have the adapter
  ///   - offset: the matrix's output that is the update's first
  ///   - weight: that the request gives the adapter
  init(_ update: Adapter.Update, rows: Range<Int>, offset: Int, weight: Float) {
    self.init(update.factors, rows: rows, offset: offset, scale: weight * update.scale, weight: weight)
  }
}
