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
    withAttentionRows(batch) { attentionRows in
      for index in base.layers.indices {
        attentionBlock(index, batch, attentionRows, cache.layout, x)
        feedForwardBlock(index, batch, rows, x)
      }
    }

    let wanted = gatherLogitRows(batch, x)
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      workspace.gathered.pointer, weight: base.finalNorm, epsilon: config.rmsNormEpsilon, rows: wanted,
      size: config.hiddenSize, into: normed)
    workspace.reserveLogits(wanted * base.head.paddedOutputs)
    let logits = workspace.logits.pointer
    compute.product(
      base.head, normed, rows: wanted, rounded: workspace.rounded, into: logits, ldy: base.head.paddedOutputs)
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
    _ index: Int, _ batch: ForwardBatch, _ rows: [AttentionRow], _ layout: KeyValueLayout,
    _ x: UnsafeMutablePointer<Float>
  ) {
    let (config, layer) = (base.config, base.layers[index])
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      x, weight: layer.inputNorm, epsilon: config.rmsNormEpsilon, rows: rows.count, size: config.hiddenSize,
      into: normed)
    let stack = layer.queryKeyValue
    let qkv = workspace.stacked.pointer
    let ld = stack.matrix.paddedOutputs
    linear(stack, index, batch, normed, rows.count, into: qkv)
    let attended = workspace.attended.pointer
    compute.attention(
      layout, layer: index, rows: rows, queries: qkv + stack.offsets[.q]!, keys: qkv + stack.offsets[.k]!,
      values: qkv + stack.offsets[.v]!, ld: ld, cosine: rope.cosine.pointer, sine: rope.sine.pointer, out: attended)
    let projected = workspace.projected.pointer
    linear(layer.output, index, batch, attended, rows.count, into: projected)
    compute.add(
      projected, ldy: layer.output.matrix.paddedOutputs, rows: rows.count, size: config.hiddenSize, to: x)
  }

  private func feedForwardBlock(_ index: Int, _ batch: ForwardBatch, _ rows: Int, _ x: UnsafeMutablePointer<Float>) {
    let (config, layer) = (base.config, base.layers[index])
    let normed = workspace.normed.pointer
    compute.rmsNorm(
      x, weight: layer.postAttentionNorm, epsilon: config.rmsNormEpsilon, rows: rows, size: config.hiddenSize,
      into: normed)
    let stack = layer.gateUp
    let gateUp = workspace.stacked.pointer
    linear(stack, index, batch, normed, rows, into: gateUp)
    let activated = workspace.activated.pointer
    compute.swiglu(
      gate: gateUp + stack.offsets[.gate]!, up: gateUp + stack.offsets[.up]!, ld: stack.matrix.paddedOutputs,
      rows: rows, size: config.intermediateSize, into: activated)
    let projected = workspace.projected.pointer
    linear(layer.down, index, batch, activated, rows, into: projected)
    compute.add(projected, ldy: layer.down.matrix.paddedOutputs, rows: rows, size: config.hiddenSize, to: x)
  }

  /// out = x · Wᵀ + Σ weight · scale · (x · Aᵀ) · Bᵀ, each segment with its own adapters.
  private func linear(
    _ stack: StackedLinear, _ layer: Int, _ batch: ForwardBatch, _ x: UnsafePointer<Float>, _ rows: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let (ldx, ldy) = (stack.matrix.columns, stack.matrix.paddedOutputs)
    compute.product(stack.matrix, x, rows: rows, rounded: workspace.rounded, into: out, ldy: ldy)
    var row = 0
    for run in batch.adapterRuns {
      for term in run.adapters.terms {
        for (module, offset) in stack.offsets {
          guard let lora = term.adapter.layers[layer][module] else { continue }
          let shrunk = workspace.shrunk(lora.a.paddedOutputs * run.rows)
          compute.product(
            lora.a, x + row * ldx, ldx: ldx, rows: run.rows, into: shrunk, ldy: lora.a.paddedOutputs)
          compute.addProduct(
            lora.b, shrunk, ldx: lora.a.paddedOutputs, rows: run.rows, into: out + row * ldy + offset, ldy: ldy,
            scale: term.weight * lora.scale)
        }
      }
      row += run.rows
    }
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
  var adapterRuns: [(adapters: AdapterSet, rows: Int)] {
    var runs: [(adapters: AdapterSet, rows: Int)] = []
    for segment in segments {
      if let last = runs.last, last.adapters == segment.adapters {
        runs[runs.count - 1].rows += segment.tokens.count
      } else {
        runs.append((segment.adapters, segment.tokens.count))
      }
    }
    return runs
  }
}

/// Buffers of one forward pass, made once for the largest batch.
private struct Workspace {
  let hidden, normed, gathered, stacked, attended, activated, projected: AlignedBuffer<Float>
  let rounded: RoundedRows
  private(set) var logits = AlignedBuffer<Float>(count: 0)
  private var shrunkBuffer = AlignedBuffer<Float>(count: 0)

  init(_ config: ModelConfig, rows: Int) {
    hidden = AlignedBuffer(count: rows * config.hiddenSize)
    normed = AlignedBuffer(count: rows * config.hiddenSize)
    gathered = AlignedBuffer(count: rows * config.hiddenSize)
    let widest = StackedLinear.stacks.map { StackedLinear.layout($0, config).outputs }.max() ?? 0
    stacked = AlignedBuffer(count: rows * widest)
    attended = AlignedBuffer(count: rows * config.querySize)
    activated = AlignedBuffer(count: rows * config.intermediateSize)
    projected = AlignedBuffer(count: rows * StackedLinear.layout([.down], config).outputs)
    rounded = RoundedRows(
      rows: rows, columns: max(config.hiddenSize, config.querySize, config.intermediateSize))
  }

  mutating func reserveLogits(_ count: Int) {
    if logits.count < count { logits = AlignedBuffer(count: count) }
  }

  mutating func shrunk(_ count: Int) -> UnsafeMutablePointer<Float> {
    if shrunkBuffer.count < count { shrunkBuffer = AlignedBuffer(count: count) }
    return shrunkBuffer.pointer
  }
}
