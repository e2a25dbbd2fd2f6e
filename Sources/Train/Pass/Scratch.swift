import Formats
import Kernels
import Model

/// The offset of each scratch buffer in one allocation, and the size of that allocation.
struct ScratchLayout {
  struct Field {
    /// Floats that come before the buffer.
    let offset: Int
    /// Floats of the buffer.
    let count: Int
  }

  /// Rows of logits that are computed at a time.
  let logitRows: Int
  /// The maximum rows that are quantised at a time.
  let quantizedRows: Int
  let widestInput: Int
  /// Values of a packed gradient; 0 if gradients are not packed.
  let packedValues: Int
  let normed, projected, activated: Field
  let gradient, dNormed, dActivated, dGateUp, dAttended, dQueryKeyValue: Field
  let dInner, perHead, scaled, dropped, dDropped, dBranch: Field
  let cappedLogits, logits, gathered, headNormed, dHeadNormed, dGathered: Field
  /// Floats of all buffers.
  let floats: Int

  private static let logitBytes = 24 << 20

  /// - Parameter tokens: of the largest microbatch
  init(_ shapes: TrainingShapes, tokens: Int) {
    var floats = 0
    func field(_ rows: Int, _ columns: Int) -> Field {
      // Fields begin on cache lines, as `AlignedBuffer` does.
      defer { floats += (rows * columns + 15) / 16 * 16 }
      return Field(offset: floats, count: rows * columns)
    }
    let config = shapes.config
    let hidden = config.hiddenSize
    let outputs = shapes.paddedOutputs
    let vocabulary = TileLayout.groups(config.vocabularySize) * tileLanes
    let logitRows = min(max(Self.logitBytes / (vocabulary * MemoryLayout<Float>.size), 8), 256)
    self.logitRows = logitRows
    // DoRA's norms quantize the rows of A.
    let productRows = min(tokens, TrainingPass.productTokens)
    quantizedRows = max(productRows, logitRows, shapes.largestRankSum)
    widestInput = shapes.widestInput
    packedValues =
      shapes.packsGradients
      ? max(
        PackedGradient.count(rows: productRows, outputs: outputs.all.max() ?? 0),
        PackedGradient.count(rows: logitRows, outputs: config.vocabularySize)) : 0
    normed = field(tokens, hidden)
    projected = field(tokens, max(outputs.output, outputs.down))
    activated = field(tokens, config.intermediateSize)
    gradient = field(tokens, hidden)
    dNormed = field(tokens, hidden)
    dActivated = field(tokens, config.intermediateSize)
    dGateUp = field(tokens, outputs.gateUp)
    dAttended = field(tokens, config.querySize)
    dQueryKeyValue = field(tokens, outputs.queryKeyValue)
    dInner = field(tokens, shapes.largestRankSum)
    perHead = field(2 * tokens, config.querySize)
    // DoRA's norms multiply the rows of A as well.
    scaled = field(shapes.usesDoRA ? max(tokens, shapes.largestRankSum) : 0, outputs.all.max() ?? 0)
    dropped = field(shapes.usesDropout ? tokens : 0, shapes.widestInput)
    dDropped = field(shapes.usesDropout ? tokens : 0, shapes.widestInput)
    let architecture = config.architecture
    let changesBranches = architecture.norms != .before || architecture.residualMultiplier != 1
    dBranch = field(changesBranches ? tokens : 0, hidden)
    cappedLogits = field(architecture.logitSoftCap == nil ? 0 : logitRows, vocabulary)
    logits = field(logitRows, vocabulary)
    gathered = field(logitRows, hidden)
    headNormed = field(logitRows, hidden)
    dHeadNormed = field(logitRows, hidden)
    dGathered = field(logitRows, hidden)
    self.floats = floats
  }

  var bytes: Int {
    floats * MemoryLayout<Float>.size + QuantizedRows.bytes(rows: quantizedRows, columns: widestInput)
      + packedValues * MemoryLayout<UInt16>.size
  }
}

/// Buffers whose contents are not needed after a layer. A name that begins with d is the gradient of the loss by the
/// value of that name.
final class Scratch {
  /// Floats that are divided into rows when they are used. The length of a row depends on the stack.
  struct Area {
    private let pointer: UnsafeMutablePointer<Float>
    private let count: Int

    fileprivate init(_ pointer: UnsafeMutablePointer<Float>, count: Int) {
      self.pointer = pointer
      self.count = count
    }

    /// [rows][columns]; ends the process if the area is smaller.
    func rows(_ rows: Int, of columns: Int) -> Rows {
      precondition(rows * columns <= count, "a scratch buffer is too small")
      return Rows(pointer, stride: columns)
    }
  }

  let layout: ScratchLayout
  /// A normalised hidden state, and the feed-forward's activations: the inputs of projections.
  let normed, activated: Area
  /// The outputs of the projections o and down.
  let projected: Area
  /// The gradient by the residual stream.
  let gradient: Area
  let dNormed, dActivated, dGateUp, dAttended, dQueryKeyValue, dInner: Area
  /// The contribution of each query head to the gradients of keys and values.
  let perHead: Area
  /// A projection's gradient scaled by DoRA's factors.
  let scaled: Area
  /// The input of a projection after dropout, and its gradient.
  let dropped, dDropped: Area
  /// The gradient by what a projection adds to the residual stream before its norm and multiplier.
  let dBranch: Area
  /// The logits after their soft cap, which its gradient needs.
  let cappedLogits: Area
  /// The output head's input before and after the norm, and its logits.
  let gathered, headNormed, logits: Area
  let dGathered, dHeadNormed: Area
  /// Quantised rows for integer products.
  let quantized: QuantizedRows
  /// A gradient for products on tile registers.
  let packedGradient: PackedGradient
  private let buffer: AlignedBuffer<Float>

  init(_ layout: ScratchLayout) {
    let buffer = AlignedBuffer<Float>(count: layout.floats)
    func area(_ field: ScratchLayout.Field) -> Area { Area(buffer.pointer + field.offset, count: field.count) }
    self.layout = layout
    self.buffer = buffer
    normed = area(layout.normed)
    activated = area(layout.activated)
    projected = area(layout.projected)
    gradient = area(layout.gradient)
    dNormed = area(layout.dNormed)
    dActivated = area(layout.dActivated)
    dGateUp = area(layout.dGateUp)
    dAttended = area(layout.dAttended)
    dQueryKeyValue = area(layout.dQueryKeyValue)
    dInner = area(layout.dInner)
    perHead = area(layout.perHead)
    scaled = area(layout.scaled)
    dropped = area(layout.dropped)
    dDropped = area(layout.dDropped)
    dBranch = area(layout.dBranch)
    cappedLogits = area(layout.cappedLogits)
    gathered = area(layout.gathered)
    headNormed = area(layout.headNormed)
    logits = area(layout.logits)
    dGathered = area(layout.dGathered)
    dHeadNormed = area(layout.dHeadNormed)
    quantized = QuantizedRows(rows: layout.quantizedRows, columns: layout.widestInput)
    packedGradient = PackedGradient(count: layout.packedValues)
  }
}
