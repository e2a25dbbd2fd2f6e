public import Kernels

/// The Llama decoder (Touvron et al., 2023): embedding, layers of attention and SwiGLU, norm, output head.
///
/// One thread at a time calls `forward`; the pool's threads help it.
/// `@unchecked Sendable`: the workspace is touched by the calling thread's `forward` alone.
public final class Transformer: @unchecked Sendable {
  public let base: Base
  public let compute: Compute
  public let contextLength: Int
  /// Most rows of one forward pass.
  public let maxRows: Int
  private let rope: RoPETable
  private var workspace: Workspace

  /// - Parameters:
  ///   - contextLength: positions that a sequence may have; `nil` is what the model was trained for
  ///   - maxRows: most rows of one pass; the workspace is made for so many
  public init(base: Base, compute: Compute, contextLength: Int? = nil, maxRows: Int = 256) {
    self.base = base
    self.compute = compute
    self.contextLength = contextLength ?? base.config.contextLength
    self.maxRows = maxRows
    rope = RoPETable(base.config.rope, headSize: base.config.headSize, positions: self.contextLength)
    workspace = Workspace(base.config, rows: maxRows)
  }

  /// Computes a batch and calls `body` with the wanted logits.
  /// - Parameter body: gets [batch.logitRowCount][ld] f32, segment after segment, and `ld` ≥ vocabulary size;
  ///   valid only during the call
  public func forward(
    _ batch: ForwardBatch, cache: KeyValueCache, _ body: (UnsafeMutablePointer<Float>, Int) -> Void
  ) {
    let config = base.config
    let rows = batch.rowCount
    precondition(rows <= maxRows, "a batch of \(rows) rows, workspace for \(maxRows)")
    let x = workspace.hidden.pointer
    embed(batch, into: x)
    let runs = batch.adapterRuns
    let rowsShareSequences = batch.segments.contains { $0.tokens.count > 1 }
    workspace.terms.begin(base.layers[0].queryKeyValue, runs)
    withAttentionRows(batch) { attentionRows in
      for index in base.layers.indices {
        attentionBlock(index, runs, attentionRows, rowsShareSequences, cache.layout, x)
        feedForwardBlock(index, runs, rows, x)
      }
    }

    let wanted = gatherLogitRows(batch, x)
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      workspace.gathered.pointer, weight: base.finalNorm, epsilon: config.rmsNormEpsilon, rows: wanted,
      size: config.hiddenSize, into: normed)
    workspace.reserveLogits(wanted * base.head.paddedOutputs)
    let logits = workspace.logits.pointer
    compute.product(base.head, normed, rows: wanted, scratch: &workspace.scratch, into: logits)
    body(logits, base.head.paddedOutputs)
  }

  private func embed(_ batch: ForwardBatch, into x: UnsafeMutablePointer<Float>) {
    var row = 0
    for segment in batch.segments {
      for token in segment.tokens {
        base.embedding.copyRow(Int(token), to: x + row * base.config.hiddenSize)
        row += 1
      }
    }
  }

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

  private func attentionBlock(
    _ index: Int, _ runs: [ForwardBatch.AdapterRun], _ rows: [AttentionRow], _ rowsShareSequences: Bool,
    _ layout: KeyValueLayout, _ x: UnsafeMutablePointer<Float>
  ) {
    let (config, layer) = (base.config, base.layers[index])
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      x, weight: layer.inputNorm, epsilon: config.rmsNormEpsilon, rows: rows.count, size: config.hiddenSize,
      into: normed)
    let stack = layer.queryKeyValue
    let qkv = workspace.stacked.pointer
    workspace.terms.advance(to: layer.output, index, runs)
    linear(stack, normed, rows.count, into: qkv)
    let attended = workspace.attended.pointer
    compute.attention(
      layout, layer: index, rows: rows, rowsShareSequences: rowsShareSequences, queries: qkv + stack.offset(.q),
      keys: qkv + stack.offset(.k), values: qkv + stack.offset(.v), ld: stack.matrix.paddedOutputs,
      cosine: rope.cosine.pointer, sine: rope.sine.pointer, out: attended)
    workspace.terms.advance(to: layer.gateUp, index, runs)
    linear(
      layer.output, attended, rows.count, finish: .add(to: x, size: config.hiddenSize),
      into: workspace.projected.pointer)
  }

  private func feedForwardBlock(
    _ index: Int, _ runs: [ForwardBatch.AdapterRun], _ rows: Int, _ x: UnsafeMutablePointer<Float>
  ) {
    let (config, layer) = (base.config, base.layers[index])
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      x, weight: layer.postAttentionNorm, epsilon: config.rmsNormEpsilon, rows: rows, size: config.hiddenSize,
      into: normed)
    let stack = layer.gateUp
    let activated = workspace.activated.pointer
    workspace.terms.advance(to: layer.down, index, runs)
    linear(
      stack, normed, rows,
      finish: .swiglu(up: stack.offset(.up), size: config.intermediateSize, into: activated),
      into: workspace.stacked.pointer)
    let following = index + 1 < base.layers.count ? base.layers[index + 1].queryKeyValue : nil
    workspace.terms.advance(to: following, index + 1, runs)
    linear(
      layer.down, activated, rows, finish: .add(to: x, size: config.hiddenSize), into: workspace.projected.pointer)
  }

  /// out = x · Wᵀ + Σ weight · scale · (x · Aᵀ) · Bᵀ, each run of rows with its own adapters, then `finish`.
  private func linear(
    _ stack: StackedLinear, _ x: UnsafePointer<Float>, _ rows: Int, finish: LinearFinish = .none,
    into out: UnsafeMutablePointer<Float>
  ) {
    compute.linear(
      stack.matrix, x, rows: rows, terms: workspace.terms.current, upcoming: workspace.terms.upcoming, finish: finish,
      scratch: &workspace.scratch, into: out)
  }

  private func gatherLogitRows(_ batch: ForwardBatch, _ x: UnsafePointer<Float>) -> Int {
    let size = base.config.hiddenSize
    var (row, count) = (0, 0)
    for segment in batch.segments {
      for i in segment.logits {
        (workspace.gathered.pointer + count * size).update(from: x + (row + i) * size, count: size)
        count += 1
      }
      row += segment.tokens.count
    }
    return count
  }
}

extension ForwardBatch {
  /// Neighbouring segments with the same adapters, as one.
  struct AdapterRun {
    var adapters: AdapterSet
    /// Of the batch.
    var rows: Range<Int>
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

/// The adapters' terms of the product that is computed and of the one after it. The batch keeps their adapters.
private struct ProductTerms {
  private(set) var current: [LinearTerm] = []
  private(set) var upcoming: [LinearTerm] = []

  mutating func begin(_ stack: StackedLinear, _ runs: [ForwardBatch.AdapterRun]) {
    current.removeAll(keepingCapacity: true)
    advance(to: stack, 0, runs)
  }

  /// The terms of the product to come become the current ones; `stack` of `layer` comes next, or nothing.
  mutating func advance(to stack: StackedLinear?, _ layer: Int, _ runs: [ForwardBatch.AdapterRun]) {
    swap(&current, &upcoming)
    upcoming.removeAll(keepingCapacity: true)
    guard let stack else { return }
    for run in runs {
      for term in run.adapters.terms {
        for (module, offset) in stack.modules {
          guard let lora = term.adapter[layer, module] else { continue }
          upcoming.append(
            LinearTerm(
              lora.factors, rows: run.rows, offset: offset, scale: term.weight * lora.scale, weight: term.weight))
        }
      }
    }
  }
}

/// Buffers of one forward pass, made once for the largest batch.
private struct Workspace {
  let hidden, normed, gathered, stacked, attended, activated, projected: AlignedBuffer<Float>
  var scratch: LinearScratch
  var terms = ProductTerms()
  private(set) var logits = AlignedBuffer<Float>(count: 0)

  init(_ config: ModelConfig, rows: Int) {
    hidden = AlignedBuffer(count: rows * config.hiddenSize)
    normed = AlignedBuffer(count: rows * config.hiddenSize)
    gathered = AlignedBuffer(count: rows * config.hiddenSize)
    let widest = StackedLinear.stacks.map { StackedLinear.layout($0, config).outputs }.max() ?? 0
    stacked = AlignedBuffer(count: rows * widest)
    attended = AlignedBuffer(count: rows * config.querySize)
    activated = AlignedBuffer(count: rows * config.intermediateSize)
    projected = AlignedBuffer(count: rows * StackedLinear.layout([.down], config).outputs)
    scratch = LinearScratch(
      rows: rows, columns: max(config.hiddenSize, config.querySize, config.intermediateSize))
  }

  mutating func reserveLogits(_ count: Int) {
    if logits.count < count { logits = AlignedBuffer(count: count) }
  }
}
