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
    let count = slab.targets.count
    var rowWeights: [Float] = []
    var slices: [Slice] = []
    if let weights {
      slices.append { [self] in
        rowWeights = weights()
        scratch.gradient.pointer.update(repeating: 0, count: tokens * config.hiddenSize)
      }
    }
    for first in stride(from: 0, to: count, by: scratch.logitRows) {
      let chunk = first..<min(first + scratch.logitRows, count)
      slices += logits(chunk)
      slices.append { [self] in
        let factors = weights == nil ? nil : slab.owners[chunk].map { rowWeights[$0] }[...]
        let scores = compute.crossEntropy(
          scratch.logits.pointer, ld: base.outputHead.paddedOutputs, vocabulary: config.vocabularySize,
          targets: slab.targets[chunk], weights: factors)
        for (score, owner) in zip(scores, slab.owners[chunk]) {
          loss.rows[owner] += score.loss
          loss.correct += score.isBest ? 1 : 0
        }
      }
      if weights != nil { slices += logitsBackward(chunk) }
    }
    return slices
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
        compute.round(normed, rows: chunk.count, for: head, into: rounded)
      }
    ]
    for groups in head.outputRanges(rows: chunk.count, operations: Self.sliceOperations) {
      slices.append { [self] in
        compute.product(
          head, groups: groups, normed, rows: chunk.count, rounded: rounded, into: scratch.logits.pointer)
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
    for range in head.backwardRanges(
      outputs: config.vocabularySize, rows: chunk.count, operations: Self.sliceOperations)
    {
      slices.append { [self] in
        compute.productBackward(
          head, outputs: range, logits, rows: chunk.count, into: Rows(dNormed, stride: hidden))
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
