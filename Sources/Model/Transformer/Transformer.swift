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

    let wanted = gather(batch, \.logits, from: x, into: workspace.gathered.pointer)
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      workspace.gathered.pointer, weight: base.finalNorm, epsilon: config.rmsNormEpsilon, rows: wanted,
      size: config.hiddenSize, into: normed)
    workspace.reserveLogits(wanted * base.head.paddedOutputs)
    let logits = workspace.logits.pointer
    compute.product(base.head, normed, rows: wanted, scratch: &workspace.scratch, into: logits)
    compute.finish(Rows(logits, stride: base.head.paddedOutputs), rows: wanted, config)
    let pooled = gather(batch, \.hiddenStates, from: x, into: workspace.gathered.pointer)
    compute.rmsNorm(
      workspace.gathered.pointer, weight: base.finalNorm, epsilon: config.rmsNormEpsilon, rows: pooled,
      size: config.hiddenSize, into: normed)
    body(
      ForwardResults(
        logits: logits, logitStride: base.head.paddedOutputs, hiddenStates: normed,
        overflowed: batch.segmentsWithAny(of: overflowed)))
  }

  private func embed(_ batch: ForwardBatch, into x: UnsafeMutablePointer<Float>) {
    var row = 0
    for segment in batch.segments {
      for token in segment.tokens {
        base.embedding.copyRow(Int(token), to: x + row * base.config.hiddenSize)
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
    linear(stack, layer: index, pass, input: input(pass, layer[.attentionInput]), into: qkv)
    let offsets = stack.attentionOffsets(config)
    normalizeHeads(qkv, stack, rows.count, layer[.queries], .queries, heads: config.headCount, offset: offsets.q)
    normalizeHeads(qkv, stack, rows.count, layer[.keys], .keys, heads: config.keyValueHeadCount, offset: offsets.k)
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
    addToHidden(layer.output, layer: index, pass, input: attended, norm: layer[.attentionOutput])
  }

  /// hidden += feedForward(norm(hidden)) of one layer.
  private func feedForwardBlock(layer index: Int, _ pass: Pass) {
    let (config, layer) = (base.config, base.layers[index])
    let stack = layer.gateUp
    let activated = workspace.activated.pointer
    linear(
      stack, layer: index, pass, input: input(pass, layer[.feedForwardInput]),
      epilogue: .gated(
        up: stack.feedForwardOffsets(config).up, size: config.intermediateSize,
        activation: config.architecture.activation, into: activated),
      into: workspace.stacked.pointer)
    addToHidden(layer.down, layer: index, pass, input: activated, norm: layer[.feedForwardOutput])
  }

  /// The hidden states after a norm; the hidden states themselves where there is none.
  private func input(_ pass: Pass, _ norm: UnsafePointer<Float>?) -> UnsafePointer<Float> {
    guard let norm else { return UnsafePointer(pass.hidden) }
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      pass.hidden, weight: norm, epsilon: base.config.rmsNormEpsilon, rows: pass.rows.count,
      size: base.config.hiddenSize, into: normed)
    return UnsafePointer(normed)
  }

  /// Applies the norm of queries or keys, if there is one.
  private func normalizeHeads(
    _ qkv: UnsafeMutablePointer<Float>, _ stack: StackedWeights, _ rows: Int, _ weight: UnsafePointer<Float>?,
    _ norm: LayerNorm, heads: Int, offset: Int
  ) {
    guard let weight else { return }
    let size = base.config.size(of: norm)
    let values = Rows(qkv, stride: stack.matrix.paddedOutputs).from(column: offset)
    compute.rmsNorm(
      values, weight: weight, epsilon: base.config.rmsNormEpsilon, rows: rows,
      groups: heads * base.config.headSize / size, size: size, into: values)
  }

  /// hidden += multiplier · norm(input · Wᵀ)
  private func addToHidden(
    _ stack: StackedWeights, layer: Int, _ pass: Pass, input: UnsafePointer<Float>, norm: UnsafePointer<Float>?
  ) {
    let config = base.config
    let projected = workspace.projected.pointer
    let factor = config.architecture.residualMultiplier
    guard norm != nil || factor != 1 else {
      return linear(
        stack, layer: layer, pass, input: input, epilogue: .add(to: pass.hidden, size: config.hiddenSize),
        into: projected)
    }
    linear(stack, layer: layer, pass, input: input, into: projected)
    let (rows, added) = (pass.rows.count, Rows(projected, stride: stack.matrix.paddedOutputs))
    compute.finishBranch(added, norm: norm, rows: rows, config)
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
    for run in pass.adapterRuns {
      for term in run.adapters.terms {
        for (projection, offset) in stack.projections {
          guard let lora = term.adapter[layer, projection] else { continue }
          updates.append(
            LowRankUpdate(
              lora.factors, rows: run.rows, offset: offset, scale: term.weight * lora.scale, weight: term.weight))
        }
      }
    }
    compute.linear(
      stack.matrix, bias: stack.bias, input, rows: pass.rows.count, updates: updates, epilogue: epilogue,
      scratch: &workspace.scratch,
      into: out)
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

extension ForwardBatch {
  /// Neighbouring segments with the same adapters.
  struct AdapterRun {
    var adapters: AdapterSet
    /// The segments' rows in the batch.
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

  var adapterRuns: [AdapterRun] {
    var runs: [AdapterRun] = []
    var row = 0
    for segment in segments {
      let rows = row..<row + segment.tokens.count
      if let last = runs.last, last.adapters == segment.adapters {
        runs[runs.count - 1].rows = last.rows.lowerBound..<rows.upperBound
      } else {
        runs.append(AdapterRun(adapters: segment.adapters, rows: rows))
      }
      row = rows.upperBound
    }
    return runs
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
}
