import Formats
import Kernels
import Model

/// −log p of a microbatch's labels.
struct LabelLosses: Equatable {
  /// [rows]: the sum of the losses of each row's labels.
  var rows: [Double]
  /// Labels that were the most probable token.
  var correct = 0

  var total: Double { rows.reduce(0, +) }
}

/// The output head, computed only at positions that carry loss, a limited number of rows of logits at a time.
extension TrainingPass {
  /// Computes the losses of the microbatch's labels and, if weights are given, writes the gradient of Σ weight · loss
  /// to `scratch.gradient`.
  ///
  /// The backward pass of a chunk of logits follows its forward pass at once, so that only one chunk is in memory.
  /// - Parameter weights: [rows], the factor on each row's loss; `nil` computes no gradient
  func head(weights: [Float]? = nil) throws(TrainingInterruption) -> LabelLosses {
    var losses = LabelLosses(rows: Array(repeating: 0, count: microbatch.rows.count))
    if weights != nil {
      let gradient = scratch.gradient.rows(tokens, of: config.hiddenSize)
      try byRows(Cost.simple * config.hiddenSize) { rows in
        gradient.from(row: rows.lowerBound).pointer.update(repeating: 0, count: rows.count * config.hiddenSize)
      }
    }
    let size = scratch.layout.logitRows
    for first in stride(from: 0, to: microbatch.targets.count, by: size) {
      let chunk = first..<min(first + size, microbatch.targets.count)
      let logits = try computeLogits(chunk)
      for rows in Self.even(chunk.count, maximum: Self.turnOperations / (Cost.logit * config.vocabularySize)) {
        if config.architecture.changesLogits { try slices.slice { finish(logits, rows) } }
        try slices.slice { score(chunk, rows, logits, weights: weights, adding: &losses) }
      }
      if weights != nil { try headBackward(chunk, logits) }
    }
    return losses
  }

  /// Finishes some of a chunk's logits, and keeps them if their gradient needs them.
  private func finish(_ logits: Rows, _ rows: Range<Int>) {
    let logits = logits.from(row: rows.lowerBound)
    compute.finish(logits, rows: rows.count, config)
    guard config.architecture.logitSoftCap != nil else { return }
    compute.copy(
      logits, rows: rows.count, columns: config.vocabularySize,
      into: scratch.cappedLogits.rows(rows.upperBound, of: logits.stride).from(row: rows.lowerBound))
  }

  /// Turns the gradient of finished logits into that of the head's outputs.
  private func finishBackward(_ dLogits: Rows, _ rows: Range<Int>) {
    let architecture = config.architecture
    let gradient = dLogits.from(row: rows.lowerBound)
    if let cap = architecture.logitSoftCap {
      compute.softCapBackward(
        scratch.cappedLogits.rows(rows.upperBound, of: dLogits.stride).from(row: rows.lowerBound), cap,
        rows: rows.count, columns: config.vocabularySize, replacing: gradient)
    }
    if architecture.logitMultiplier != 1 {
      compute.scale(gradient, by: architecture.logitMultiplier, rows: rows.count, columns: config.vocabularySize)
    }
  }

  /// Computes the losses of some of a chunk's rows. If there are weights, the logits are replaced by their gradient.
  private func score(
    _ chunk: Range<Int>, _ rows: Range<Int>, _ logits: Rows, weights: [Float]?, adding losses: inout LabelLosses
  ) {
    let scored = chunk.lowerBound + rows.lowerBound..<chunk.lowerBound + rows.upperBound
    let owners = microbatch.owners[scored]
    let scores = compute.crossEntropy(
      logits.from(row: rows.lowerBound).pointer, ld: logits.stride, vocabulary: config.vocabularySize,
      targets: microbatch.targets[scored], weights: weights.map { weights in owners.map { weights[$0] }[...] })
    for (score, owner) in zip(scores, owners) {
      losses.rows[owner] += score.loss
      losses.correct += score.isBest ? 1 : 0
    }
  }

  /// The logits of a chunk of the labels, [labels][padded vocabulary].
  private func computeLogits(_ chunk: Range<Int>) throws(TrainingInterruption) -> Rows {
    let head = base.head
    let hidden = config.hiddenSize
    let gathered = scratch.gathered.rows(chunk.count, of: hidden)
    let normed = scratch.headNormed.rows(chunk.count, of: hidden)
    let logits = scratch.logits.rows(chunk.count, of: head.paddedOutputs)
    try slices.slice {
      let last = activations.input(config.layerCount, tokens: tokens)
      for (row, token) in microbatch.predictors[chunk].enumerated() {
        gathered.from(row: row).pointer.update(from: last.from(row: token).pointer, count: hidden)
      }
      compute.rmsNorm(
        gathered.pointer, weight: base.finalNorm, epsilon: config.rmsNormEpsilon, rows: chunk.count, size: hidden,
        into: normed.pointer)
      compute.quantizeRows(normed.pointer, rows: chunk.count, for: head, into: scratch.quantized)
    }
    let operations = compute.operations(Self.turnOperations, of: head)
    for groups in head.outputRanges(rows: chunk.count, operations: operations) {
      try slices.slice {
        compute.product(
          head, groups: groups, normed.pointer, rows: chunk.count, quantized: scratch.quantized, into: logits.pointer)
      }
    }
    return logits
  }

  /// - Parameter dLogits: the gradient of the chunk's logits
  private func headBackward(_ chunk: Range<Int>, _ dLogits: Rows) throws(TrainingInterruption) {
    let head = base.head
    let hidden = config.hiddenSize
    let gathered = scratch.gathered.rows(chunk.count, of: hidden)
    let dNormed = scratch.dHeadNormed.rows(chunk.count, of: hidden)
    let dGathered = scratch.dGathered.rows(chunk.count, of: hidden)
    let gradient = scratch.gradient.rows(tokens, of: hidden)
    if config.architecture.changesLogits {
      for rows in Self.even(chunk.count, maximum: Self.turnOperations / (Cost.logit * config.vocabularySize)) {
        try slices.slice { finishBackward(dLogits, rows) }
      }
    }
    try inputGradient(head, outputs: config.vocabularySize, dy: dLogits, rows: chunk.count, into: dNormed)
    try slices.slice {
      dGathered.pointer.update(repeating: 0, count: chunk.count * hidden)
      compute.rmsNormBackward(
        gathered.pointer, weight: base.finalNorm, epsilon: config.rmsNormEpsilon, dout: dNormed.pointer,
        rows: chunk.count, size: hidden, adding: dGathered.pointer)
      for (row, token) in microbatch.predictors[chunk].enumerated() {
        gradient.from(row: token).pointer.update(from: dGathered.from(row: row).pointer, count: hidden)
      }
    }
  }
}
