import Formats
import Kernels
import Model

/// Losses of a slab: one number for each row, and how many predictions were right.
final class SlabLoss {
  /// Σ −log p(label) of each row.
  var rows: [Double]
  var correct = 0

  init(_ slab: Slab) { rows = Array(repeating: 0, count: slab.rows.count) }

  var total: Double { rows.reduce(0, +) }
}

/// The output head, at positions that carry loss alone, so many rows of logits at a time.
extension TrainingPass {
  /// Slices that score the slab's labels, and, given weights, leave the loss's gradient in `scratch.gradient`.
  ///
  /// Every chunk of rows goes there and back before the next, so that no more than one is in memory.
  /// - Parameters:
  ///   - loss: is added to
  ///   - weights: called when the first slice runs: a factor on each row's loss; `nil` only scores
  func head(adding loss: SlabLoss, weights: (() -> [Float])?) -> [Slice] {
    var rowWeights: [Float] = []
    var slices: [Slice] = []
    if let weights {
      slices.append { rowWeights = weights() }
      slices += byRows(Cost.simple * config.hiddenSize) { [self] rows in
        hidden(scratch.gradient.pointer).from(row: rows.lowerBound).pointer
          .update(repeating: 0, count: rows.count * config.hiddenSize)
      }
    }
    for first in stride(from: 0, to: slab.targets.count, by: scratch.logitRows) {
      let chunk = first..<min(first + scratch.logitRows, slab.targets.count)
      slices += logits(chunk)
      for rows in Self.even(chunk.count, most: Self.sliceOperations / (Cost.logit * config.vocabularySize)) {
        slices.append { [self] in
          score(chunk, rows, adding: loss, weights: weights == nil ? nil : rowWeights)
        }
      }
      if weights != nil { slices += logitsBackward(chunk) }
    }
    return slices
  }

  /// Scores some of a chunk's rows of logits.
  private func score(_ chunk: Range<Int>, _ rows: Range<Int>, adding loss: SlabLoss, weights: [Float]?) {
    let scored = chunk.lowerBound + rows.lowerBound..<chunk.lowerBound + rows.upperBound
    let ld = base.outputHead.paddedOutputs
    let scores = compute.crossEntropy(
      scratch.logits.pointer + rows.lowerBound * ld, ld: ld, vocabulary: config.vocabularySize,
      targets: slab.targets[scored], weights: weights.map { weights in slab.owners[scored].map { weights[$0] }[...] })
    for (score, owner) in zip(scores, slab.owners[scored]) {
      loss.rows[owner] += score.loss
      loss.correct += score.isBest ? 1 : 0
    }
  }

  private func logits(_ chunk: Range<Int>) -> [Slice] {
    let head = base.outputHead
    let hidden = config.hiddenSize
    let (gathered, normed) = (scratch.gathered.pointer, scratch.headNormed.pointer)
    let rounded = scratch.rounded
    var slices: [Slice] = [
      { [self] in
        let last = activations.input(config.layerCount, tokens: tokens)
        for (row, token) in slab.predictors[chunk].enumerated() {
          (gathered + row * hidden).update(from: last + token * hidden, count: hidden)
        }
        compute.rmsNorm(
          gathered, weight: base.outputNorm, epsilon: config.rmsNormEpsilon, rows: chunk.count, size: hidden,
          into: normed)
        compute.quantizeRows(normed, rows: chunk.count, for: head, into: rounded)
      }
    ]
    for groups in head.outputRanges(rows: chunk.count, operations: Self.sliceOperations) {
      slices.append { [self] in
        compute.product(
          head, groups: groups, normed, rows: chunk.count, quantized: rounded, into: scratch.logits.pointer)
      }
    }
    return slices
  }

  private func logitsBackward(_ chunk: Range<Int>) -> [Slice] {
    let head = base.outputHead
    let hidden = config.hiddenSize
    let (dNormed, dGathered) = (scratch.dHeadNormed.pointer, scratch.dGathered.pointer)
    let logits = Rows(scratch.logits.pointer, stride: head.paddedOutputs)
    var slices: [Slice] = []
    for part in head.backwardParts(
      outputs: config.vocabularySize, rows: chunk.count, operations: Self.sliceOperations)
    {
      slices.append { [self] in
        compute.productBackward(head, part: part, dy: logits, rows: chunk.count, into: Rows(dNormed, stride: hidden))
      }
    }
    slices.append { [self] in
      dGathered.update(repeating: 0, count: chunk.count * hidden)
      compute.rmsNormBackward(
        scratch.gathered.pointer, weight: base.outputNorm, epsilon: config.rmsNormEpsilon, dout: dNormed,
        rows: chunk.count, size: hidden, adding: dGathered)
      for (row, token) in slab.predictors[chunk].enumerated() {
        (scratch.gradient.pointer + token * hidden).update(from: dGathered + row * hidden, count: hidden)
      }
    }
    return slices
  }
}
