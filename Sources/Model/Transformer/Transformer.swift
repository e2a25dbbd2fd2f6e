import Formats
public import Kernels

/// The Llama decoder (Touvron et al., 2023) and its relatives: embedding, layers of attention and feed-forward, norm, output
/// head. `ModelConfig.architecture` says what a relative computes otherwise.
///
/// Only one thread at a time may call `forward`, which computes on the pool's threads.
///
/// `@unchecked Sendable`: only `forward` uses the workspace, and its callers see to it that one runs at a time.
public final class Transformer: @unchecked Sendable {
  /// The weights.
  public let base: Base
  /// The kernels, their thread pool and the compute mode.
  public let compute: Compute
  /// Positions that a sequence can have.
  public let contextLength: Int
  /// The maximum of rows in a forward pass.
  public let maxRows: Int
  private let rope: LayerRoPE
  /// What attention computes in each layer.
  private let rules: [AttentionRule]
  private var workspace: Workspace

  /// - Parameters:
  ///   - contextLength: positions that a sequence can have; `nil` for what the model was trained for, with the frequencies
  ///     of short texts
  ///   - maxRows: the maximum of rows in a pass, for which the workspace is allocated
  public init(base: Base, compute: Compute, contextLength: Int? = nil, maxRows: Int = Transformer.defaultRows) {
    self.base = base
    self.compute = compute
    self.contextLength = contextLength ?? base.config.plainContextLength
    self.maxRows = maxRows
    rope = LayerRoPE(base.config, positions: self.contextLength, contextLength: self.contextLength)
    rules = (0..<base.config.layerCount).map(base.config.attentionRule)
    workspace = Workspace(base.config, rows: maxRows)
  }

  /// Computes a batch, stores its keys and values in the cache, and calls `body` with the wanted logits.
  /// - Parameter body: is given [batch.logitRowCount][ld] f32 in the order of the segments, and ld ≥ vocabulary size. The
  ///   logits are valid only during the call.
  public func forward(
    _ batch: ForwardBatch, cache: KeyValueCache, _ body: (UnsafeMutablePointer<Float>, Int) -> Void
  ) {
    forward(batch, cache: cache) { results in body(results.logits, results.logitStride) }
  }

  /// Like the function above, but also gives the wanted hidden states, and reports which segments have numbers beyond
  /// f32's range, which an adapter with enormous weights can cause.
  /// - Parameter body: is given the results, which are valid only during the call
  public func forward(_ batch: ForwardBatch, cache: KeyValueCache, _ body: (ForwardResults) -> Void) {
    let config = base.config
    let rows = batch.rowCount
    precondition(rows <= maxRows, "a batch of \(rows) rows, workspace for \(maxRows)")
    let x = workspace.hidden.pointer
    embed(batch, into: x)
    var overflowed = [Bool](repeating: false, count: rows)
    withAttentionRows(batch) { attentionRows in
      let pass = Pass(
        adapterRuns: batch.adapterRuns, rows: attentionRows,
        rowsShareSequences: batch.segments.contains { $0.tokens.count > 1 }, cacheLayout: cache.layout, hidden: x)
      for layer in base.layers.indices {
        attentionBlock(layer: layer, pass, overflowed: &overflowed)
        feedForwardBlock(layer: layer, pass)
      }
    }

    // A hidden state that is not finite stays so in all later layers, which only add to it. So checking the last layer's
    // hidden states is enough.
    for row in 0..<rows where !compute.hasFiniteSquares(x + row * config.hiddenSize, count: config.hiddenSize) {
      overflowed[row] = true
    }

    let wanted = lastHiddenStates(batch, \.logits)
    workspace.reserveLogits(wanted * base.head.paddedOutputs)
    let logits = Rows(workspace.logits.pointer, stride: base.head.paddedOutputs)
    let runs = batch.adapterRuns(of: \.logits)
    computeLogits(runs, rows: wanted, into: logits)
    compute.finish(logits, rows: wanted, config)
    var overflowedSegments = batch.segmentsWithAny(of: overflowed)
    batch.mark(&overflowedSegments, whereNotFinite: logits, count: config.vocabularySize, of: \.logits)
    _ = lastHiddenStates(batch, \.hiddenStates)
    let pooled = Rows(workspace.normed.pointer, stride: config.hiddenSize)
    batch.mark(&overflowedSegments, whereNotFinite: pooled, count: config.hiddenSize, of: \.hiddenStates)
    body(
      ForwardResults(
        logits: logits.pointer, logitStride: logits.stride, hiddenStates: pooled.pointer,
        overflowed: overflowedSegments))
  }

  /// Writes some rows' hidden states after the last norm to `workspace.normed`.
  /// - Parameter wanted: which rows of a segment
  /// - Returns: how many rows
  private func lastHiddenStates(_ batch: ForwardBatch, _ wanted: KeyPath<ForwardBatch.Segment, Range<Int>>) -> Int {
    let size = base.config.hiddenSize
    let (gathered, normed) = (workspace.gathered.pointer, workspace.normed.pointer)
    let count = gather(batch, wanted, from: workspace.hidden.pointer, into: gathered)
    let runs = batch.adapterRuns(of: wanted)
    runs.forEachWeight(of: .last, base.finalNorm, size: size, rows: count) { rows, weight in
      compute.rmsNorm(
        gathered + rows.lowerBound * size, weight: weight, epsilon: base.config.rmsNormEpsilon, rows: rows.count,
        size: size, into: normed + rows.lowerBound * size)
    }
    return count
  }

  /// logits = x · Wᵀ + what the adapters add, where x is the hidden states in `workspace.normed`.
  private func computeLogits(_ runs: [ForwardBatch.AdapterRun], rows: Int, into logits: Rows) {
    let x = workspace.normed.pointer
    var updates: [LowRankUpdate] = []
    for run in runs {
      for term in run.adapters.terms {
        guard let update = term.adapter.others?.head?.update else { continue }
        updates.append(LowRankUpdate(update, rows: run.rows, offset: 0, weight: term.weight))
      }
    }
    compute.linear(
      base.head, x, rows: rows, updates: updates, scratch: &workspace.scratch, into: logits.pointer)
    for run in runs {
      for term in run.adapters.terms {
        guard let head = term.adapter.others?.head, let tokens = head.tokens, let matrix = head.rows else { continue }
        workspace.reserveChanges(run.rows.count * matrix.paddedOutputs)
        let changes = workspace.changes.pointer
        compute.product(
          matrix, x + run.rows.lowerBound * matrix.columns, rows: run.rows.count, scratch: &workspace.scratch,
          into: changes)
        for (index, row) in run.rows.enumerated() {
          tokens.add(
            changes + index * matrix.paddedOutputs, weight: term.weight, to: logits.pointer + row * logits.stride)
        }
      }
    }
  }

  private func embed(_ batch: ForwardBatch, into x: UnsafeMutablePointer<Float>) {
    var row = 0
    for segment in batch.segments {
      for token in segment.tokens {
        let out = x + row * base.config.hiddenSize
        base.embedding.copyRow(Int(token), to: out)
        for term in segment.adapters.terms {
          term.adapter.others?.embedding?.add(token, weight: term.weight, to: out)
        }
        row += 1
      }
    }
    let factor = base.config.architecture.embeddingMultiplier
    if factor != 1 { compute.scale(hiddenRows(x), by: factor, rows: row, columns: base.config.hiddenSize) }
  }

  private func hiddenRows(_ x: UnsafeMutablePointer<Float>) -> Rows { Rows(x, stride: base.config.hiddenSize) }

  private func withAttentionRows(_ batch: ForwardBatch, _ body: ([AttentionRow]) -> Void) {
    let blocks = ContiguousArray(batch.segments.flatMap(\.table.pointers))
    blocks.withUnsafeBufferPointer { blocks in
      var rows: [AttentionRow] = []
      var first = 0
      for segment in batch.segments {
        guard let table = blocks.baseAddress.map({ $0 + first }) else { continue }
        for i in segment.tokens.indices { rows.append(AttentionRow(blocks: table, position: segment.position + i)) }
        first += segment.table.blocks.count
      }
      body(rows)
    }
  }

  /// What all layers of one pass read, and the hidden states that they change.
  private struct Pass {
    let adapterRuns: [ForwardBatch.AdapterRun]
    /// One for each row of the batch.
    let rows: [AttentionRow]
    let rowsShareSequences: Bool
    let cacheLayout: KeyValueLayout
    /// [rows][hiddenSize]
    let hidden: UnsafeMutablePointer<Float>
  }

  /// hidden += attention(norm(hidden)) of one layer; stores keys and values in the cache.
  /// - Parameter overflowed: set for rows with a key or a value that the cache cannot store
  private func attentionBlock(layer index: Int, _ pass: Pass, overflowed: inout [Bool]) {
    let (config, layer, rows) = (base.config, base.layers[index], pass.rows)
    let stack = layer.queryKeyValue
    let qkv = workspace.stacked.pointer
    linear(stack, layer: index, pass, input: input(pass, layer: index, .attentionInput), into: qkv)
    let offsets = stack.attentionOffsets(config)
    normalizeHeads(qkv, layer: index, pass, .queries, heads: config.headCount, offset: offsets.q)
    normalizeHeads(qkv, layer: index, pass, .keys, heads: config.keyValueHeadCount, offset: offsets.k)
    // A key or a value that is too large for the cache would be stored as a different number.
    let limit = pass.cacheLayout.element.maximumMagnitude
    for row in rows.indices {
      for offset in [offsets.k, offsets.v] {
        let values = qkv + row * stack.matrix.paddedOutputs + offset
        if !Compute.allMagnitudes(of: values, count: config.keyValueSize, areAtMost: limit) { overflowed[row] = true }
      }
    }
    let attended = workspace.attended.pointer
    let rope = rope[index]
    compute.attention(
      pass.cacheLayout, rule: rules[index], layer: index, rows: rows, rowsShareSequences: pass.rowsShareSequences,
      queries: qkv + offsets.q, keys: qkv + offsets.k, values: qkv + offsets.v, ld: stack.matrix.paddedOutputs,
      cosine: rope.map { UnsafePointer($0.cosine.pointer) }, sine: rope.map { UnsafePointer($0.sine.pointer) },
      out: attended)
    addToHidden(layer.output, layer: index, pass, input: attended, norm: .attentionOutput)
  }

  /// hidden += feedForward(norm(hidden)) of one layer.
  private func feedForwardBlock(layer index: Int, _ pass: Pass) {
    let (config, layer) = (base.config, base.layers[index])
    let stack = layer.gateUp
    let activated = workspace.activated.pointer
    linear(
      stack, layer: index, pass, input: input(pass, layer: index, .feedForwardInput),
      epilogue: .gated(
        up: stack.feedForwardOffsets(config).up, size: config.intermediateSize,
        activation: config.architecture.activation, into: activated),
      into: workspace.stacked.pointer)
    addToHidden(layer.down, layer: index, pass, input: activated, norm: .feedForwardOutput)
  }

  /// The hidden states after a norm; the hidden states themselves where there is none.
  private func input(_ pass: Pass, layer: Int, _ norm: LayerNorm) -> UnsafePointer<Float> {
    guard let weight = base.layers[layer][norm] else { return UnsafePointer(pass.hidden) }
    let (normed, size) = (workspace.normed.pointer, base.config.hiddenSize)
    forEachWeight(of: norm, layer: layer, weight, pass) { rows, weight in
      compute.rmsNorm(
        pass.hidden + rows.lowerBound * size, weight: weight, epsilon: base.config.rmsNormEpsilon, rows: rows.count,
        size: size, into: normed + rows.lowerBound * size)
    }
    return UnsafePointer(normed)
  }

  /// Calls `body` with ranges of rows that have the same weights of a norm: the base's, or those of their adapters.
  private func forEachWeight(
    of norm: LayerNorm, layer: Int, _ weight: UnsafePointer<Float>, _ pass: Pass,
    _ body: (Range<Int>, UnsafePointer<Float>) -> Void
  ) {
    pass.adapterRuns.forEachWeight(
      of: OtherChanges.NormKey(layer: layer, norm: norm), weight, size: base.config.size(of: norm),
      rows: pass.rows.count, body)
  }

  /// Applies the norm of queries or keys, if there is one.
  private func normalizeHeads(
    _ qkv: UnsafeMutablePointer<Float>, layer: Int, _ pass: Pass, _ norm: LayerNorm, heads: Int, offset: Int
  ) {
    guard let weight = base.layers[layer][norm] else { return }
    let size = base.config.size(of: norm)
    let all = Rows(qkv, stride: base.layers[layer].queryKeyValue.matrix.paddedOutputs).from(column: offset)
    forEachWeight(of: norm, layer: layer, weight, pass) { rows, weight in
      let values = all.from(row: rows.lowerBound)
      compute.rmsNorm(
        values, weight: weight, epsilon: base.config.rmsNormEpsilon, rows: rows.count,
        groups: heads * base.config.headSize / size, size: size, into: values)
    }
  }

  /// hidden += multiplier · norm(input · Wᵀ)
  private func addToHidden(
    _ stack: StackedWeights, layer: Int, _ pass: Pass, input: UnsafePointer<Float>, norm: LayerNorm
  ) {
    let config = base.config
    let projected = workspace.projected.pointer
    let factor = config.architecture.residualMultiplier
    let weight = base.layers[layer][norm]
    guard weight != nil || factor != 1 else {
      return linear(
        stack, layer: layer, pass, input: input, epilogue: .add(to: pass.hidden, size: config.hiddenSize),
        into: projected)
    }
    linear(stack, layer: layer, pass, input: input, into: projected)
    let (rows, added) = (pass.rows.count, Rows(projected, stride: stack.matrix.paddedOutputs))
    if let weight {
      forEachWeight(of: norm, layer: layer, weight, pass) { rows, weight in
        compute.finishBranch(added.from(row: rows.lowerBound), norm: weight, rows: rows.count, config)
      }
    } else {
      compute.finishBranch(added, norm: nil, rows: rows, config)
    }
    compute.sum(
      hiddenRows(pass.hidden), added, rows: rows, columns: config.hiddenSize, into: hiddenRows(pass.hidden))
  }

  /// out = x · Wᵀ + bias + Σ weight · scale · (x · Aᵀ) · Bᵀ, where x is the input and each row has its run's adapters; then the
  /// epilogue.
  private func linear(
    _ stack: StackedWeights, layer: Int, _ pass: Pass, input: UnsafePointer<Float>, epilogue: LinearEpilogue = .none,
    into out: UnsafeMutablePointer<Float>
  ) {
    var updates: [LowRankUpdate] = []
    var scalesInput = false
    for run in pass.adapterRuns {
      for term in run.adapters.terms {
        for (projection, offset) in stack.projections {
          guard let update = term.adapter[layer, projection] else { continue }
          updates.append(LowRankUpdate(update, rows: run.rows, offset: offset, weight: term.weight))
          scalesInput = scalesInput || update.factors.inputChanges != nil
        }
      }
    }
    let x = scalesInput ? scaled(input, stack, layer: layer, pass) : input
    compute.linear(
      stack.matrix, bias: stack.bias, x, rows: pass.rows.count, updates: updates, epilogue: epilogue,
      scratch: &workspace.scratch,
      into: out)
  }

  /// The input with the columns multiplied as the adapters of each row say: by 1 + Σ weight · change.
  private func scaled(
    _ input: UnsafePointer<Float>, _ stack: StackedWeights, layer: Int, _ pass: Pass
  ) -> UnsafePointer<Float> {
    let columns = stack.matrix.columns
    var target = UnsafeMutablePointer(mutating: input)
    if target == pass.hidden {
      // The hidden states themselves must stay.
      target = workspace.normed.pointer
      target.update(from: input, count: pass.rows.count * columns)
    }
    for run in pass.adapterRuns {
      let changes = run.adapters.terms.flatMap { term in
        stack.projections.compactMap { projection, _ in
          term.adapter[layer, projection]?.factors.inputChanges.map { (weight: term.weight, change: $0) }
        }
      }
      guard !changes.isEmpty else { continue }
      for column in 0..<columns {
        let factor = changes.reduce(Float(1)) { $0 + $1.weight * $1.change[column] }
        for row in run.rows { target[row * columns + column] *= factor }
      }
    }
    return UnsafePointer(target)
  }

  /// Copies some rows of each segment.
  /// - Parameters:
  ///   - wanted: which rows of a segment
  ///   - x, out: [rows][hiddenSize]
  /// - Returns: how many rows
  private func gather(
    _ batch: ForwardBatch, _ wanted: KeyPath<ForwardBatch.Segment, Range<Int>>, from x: UnsafePointer<Float>,
    into out: UnsafeMutablePointer<Float>
  ) -> Int {
    let size = base.config.hiddenSize
    var (row, count) = (0, 0)
    for segment in batch.segments {
      for i in segment[keyPath: wanted] {
        (out + count * size).update(from: x + (row + i) * size, count: size)
        count += 1
      }
      row += segment.tokens.count
    }
    return count
  }
}

extension Transformer {
  /// Rows in a pass by default.
  public static let defaultRows = 256

  /// Bytes of the buffers of a pass, with logits for one row.
  static func workspaceBytes(_ config: ModelConfig) -> Int {
    let widths =
      3 * config.hiddenSize + Workspace.widestOutputs(config) + config.querySize + config.intermediateSize
      + StackedWeights.layout([.down], config).outputs
    let columns = Workspace.widestInput(config)
    return defaultRows * widths * 4 + QuantizedRows.bytes(rows: defaultRows, columns: columns)
      + TileLayout.groups(config.vocabularySize) * tileLanes * 4
  }
}

/// The buffers of a forward pass, allocated once for the largest batch.
private struct Workspace {
  let hidden, normed, gathered, stacked, attended, activated, projected: AlignedBuffer<Float>
  var scratch: LinearScratch
  private(set) var logits = AlignedBuffer<Float>(count: 0)
  /// What an adapter adds to logits of some tokens.
  private(set) var changes = AlignedBuffer<Float>(count: 0)

  init(_ config: ModelConfig, rows: Int) {
    hidden = AlignedBuffer(count: rows * config.hiddenSize)
    normed = AlignedBuffer(count: rows * config.hiddenSize)
    gathered = AlignedBuffer(count: rows * config.hiddenSize)
    stacked = AlignedBuffer(count: rows * Self.widestOutputs(config))
    attended = AlignedBuffer(count: rows * config.querySize)
    activated = AlignedBuffer(count: rows * config.intermediateSize)
    projected = AlignedBuffer(count: rows * StackedWeights.layout([.down], config).outputs)
    scratch = LinearScratch(rows: rows, columns: Self.widestInput(config))
  }

  static func widestOutputs(_ config: ModelConfig) -> Int {
    ProjectionStack.allCases.map { StackedWeights.layout($0.projections(config), config).outputs }.max() ?? 0
  }

  static func widestInput(_ config: ModelConfig) -> Int {
    max(config.hiddenSize, config.querySize, config.intermediateSize)
  }

  mutating func reserveLogits(_ count: Int) {
    if logits.count < count { logits = AlignedBuffer(count: count) }
  }

  mutating func reserveChanges(_ count: Int) {
    if changes.count < count { changes = AlignedBuffer(count: count) }
  }
}
