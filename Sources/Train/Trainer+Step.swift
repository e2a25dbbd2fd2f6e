import Formats
import Foundation
import Kernels
import Model

/// Sums of the step under way.
struct StepAccount {
  /// Labelled tokens, or pairs: what the loss is divided by.
  var divisor = 0
  var loss = 0.0
  var correct = 0
  var scored = 0
  var tokens = 0
  var lossTokens = 0
  var gradientNorm = 0.0
}

extension Trainer {
  /// One optimiser step: slab after slab of its rows (forward, cross-entropy, backward), then AdamW.
  ///
  /// Rows are looked up when it is their slab's turn, so a step of any number of rows takes no more memory than a slab.
  func planStep() {
    let first = progress.step * hyperparameters.rowsPerStep
    var count = hyperparameters.rowsPerStep
    if hyperparameters.maxSteps == nil {
      count = min(count, data.training.count * hyperparameters.nEpochs - first)
    }
    let positions = first..<first + count
    current = StepAccount()
    push(
      [{ [unowned self] in adapter.pieces.map { piece in { [unowned self] in adapter.clearGradients(piece) } } }]
        + countDivisor(positions)
        + [{ [unowned self] in planSlab(positions, from: 0) }])
  }

  /// Phases that find what the step's loss is divided by: its pairs, or the labelled tokens of all its rows.
  private func countDivisor(_ positions: Range<Int>) -> [() -> [Slice]] {
    guard hyperparameters.method == .supervised else {
      return [{ [unowned self] in [{ [unowned self] in current.divisor = positions.count }] }]
    }
    let size = data.training.count
    var phases: [() -> [Slice]] = []
    var wholeEpochs = 0
    for epoch in Set([positions.lowerBound / size, (positions.upperBound - 1) / size]).sorted() {
      let part = positions.clamped(to: epoch * size..<(epoch + 1) * size)
      if part.count == size {
        wholeEpochs += 1
      } else {
        phases += [{ [unowned self] in order.slices(epoch: epoch) }, { [unowned self] in sumLossCounts(part) }]
      }
    }
    // Between the first and the last there are only whole ones.
    wholeEpochs += max((positions.upperBound - 1) / size - positions.lowerBound / size - 1, 0)
    phases.append { [unowned self] in [{ [unowned self] in current.divisor += wholeEpochs * data.lossTotal }] }
    return phases
  }

  private func sumLossCounts(_ positions: Range<Int>) -> [Slice] {
    stride(from: positions.lowerBound, to: positions.upperBound, by: EpochOrder.pieceSize).map { first in
      let part = first..<min(first + EpochOrder.pieceSize, positions.upperBound)
      return { [unowned self] in
        current.divisor += part.reduce(0) { $0 + Int(data.lossCounts[order.example(at: $1)]) }
      }
    }
  }

  /// Packs the slab that begins with the step's row `ordinal`, and plans what is done with it and what follows.
  private func planSlab(_ positions: Range<Int>, from ordinal: Int) -> [Slice] {
    guard ordinal < positions.count else {
      planUpdate()
      return []
    }
    let first = positions.lowerBound + ordinal
    let last = min(first + slabRows, positions.upperBound) - 1
    let size = data.training.count
    // Orders of few examples are made as they are needed; of many, a slab's rows lie in at most two epochs.
    let ordering = size > EpochOrder.pieceSize ? Set([first / size, last / size]).sorted() : []
    push(
      ordering.map { epoch in { [unowned self] in order.slices(epoch: epoch) } } + [
        { [unowned self] in
          var next = ordinal
          let slab = pack(&next, of: positions.count) { data.training[order.example(at: positions.lowerBound + $0)] }
          let following = next
          current.tokens += slab.tokens.count
          current.lossTokens += slab.targets.count
          let phases =
            switch hyperparameters.method {
            case .supervised: supervised(slab)
            case .dpo:
              preference(slab, pairs: slab.ordinals.map { order.example(at: positions.lowerBound + $0 / 2) })
            }
          push(phases + [{ [unowned self] in planSlab(positions, from: following) }])
          return []
        }
      ])
    return []
  }

  private func planUpdate() {
    push([
      // What is being written must be written before it changes.
      { [unowned self] in settle() },
      { [unowned self] in squares(of: adapter.gradients) { [unowned self] in takeGradient($0) } },
      { [unowned self] in update() },
      { [unowned self] in pass.refreshFactors(norms: norms, settingMagnitudes: false) },
      { [unowned self] in squares(of: adapter.parameters) { [unowned self] in completeStep($0) } },
    ])
  }

  /// The most tokens of a slab.
  var slabLimit: Int { hyperparameters.slabTokens(longestExample: data.longestExample) }

  /// The most examples of a slab.
  private var slabRows: Int { hyperparameters.packing ? EpochOrder.pieceSize : 1 }

  func pack(_ next: inout Int, of count: Int, _ example: (Int) -> TrainingExample) -> Slab {
    Slab.pack(&next, of: count, limit: slabLimit, rowLimit: slabRows, example)
  }

  // MARK: one slab

  /// Cross-entropy over the labelled tokens.
  private func supervised(_ slab: Slab) -> [() -> [Slice]] {
    let loss = SlabLoss(slab)
    let divisor = current.divisor
    return forward(slab, training: true) + [
      { [unowned self] in
        pass.head(adding: loss) { Array(repeating: 1 / Float(divisor), count: slab.rows.count) }
      },
      { [unowned self] in
        [
          { [unowned self] in
            current.loss += loss.total / Double(divisor)
            current.correct += loss.correct
            current.scored += slab.targets.count
          }
        ]
      },
    ] + backward()
  }

  /// −log σ(β·(log-ratio of the chosen answer − that of the rejected)), each ratio against the bare base.
  private func preference(_ slab: Slab, pairs: [Int]) -> [() -> [Slice]] {
    let (score, loss) = (SlabLoss(slab), SlabLoss(slab))
    let divisor = current.divisor
    return reference(slab, pairs: pairs, offset: 0) + forward(slab, training: true) + [
      { [unowned self] in pass.head(adding: score, weights: nil) },
      { [unowned self] in
        pass.head(adding: loss) { [unowned self] in
          let outcome = preferences(score, pairs: pairs, offset: 0)
          current.loss += outcome.loss / Double(divisor)
          current.correct += outcome.correct
          current.scored += slab.rows.count / 2
          return outcome.weights.map { Float($0 / Double(divisor)) }
        }
      },
    ] + backward()
  }

  /// The bare base's log-likelihoods of a slab's rows, unless they are known.
  func reference(_ slab: Slab, pairs: [Int], offset: Int) -> [() -> [Slice]] {
    guard !pairs.allSatisfy({ references.knows(offset + $0) }) else { return [] }
    let loss = SlabLoss(slab)
    return [{ [unowned self] in [{ [unowned self] in pass.usesAdapter = false }] }] + forward(slab, training: false) + [
      { [unowned self] in pass.head(adding: loss, weights: nil) },
      { [unowned self] in
        [
          { [unowned self] in
            pass.usesAdapter = true
            for (row, pair) in pairs.enumerated() where row % 2 == 0 {
              references[offset + pair] = (loss.rows[row], loss.rows[row + 1])
            }
          }
        ]
      },
    ]
  }

  /// Losses of pairs, and the factors on each row's −log-likelihood that their gradient is.
  func preferences(
    _ score: SlabLoss, pairs: [Int], offset: Int
  ) -> (loss: Double, correct: Int, weights: [Double]) {
    var (total, correct) = (0.0, 0)
    var weights = [Double](repeating: 0, count: score.rows.count)
    for row in stride(from: 0, to: score.rows.count, by: 2) {
      let base = references[offset + pairs[row]]
      let margin = hyperparameters.beta * ((base.chosen - score.rows[row]) - (base.rejected - score.rows[row + 1]))
      // log(1 + e^−x) without overflow.
      total += max(-margin, 0) + log1p(exp(-abs(margin)))
      correct += margin > 0 ? 1 : 0
      let slope = hyperparameters.beta / (1 + exp(margin))
      weights[row] = slope
      weights[row + 1] = -slope
    }
    return (total, correct, weights)
  }

  func forward(_ slab: Slab, training: Bool) -> [() -> [Slice]] {
    [
      { [unowned self] in
        pass.slab = slab
        pass.step = progress.step
        pass.isTraining = training
        return pass.embed()
      }
    ] + (0..<pass.config.layerCount).map { layer in { [unowned self] in pass.forward(layer) } }
  }

  private func backward() -> [() -> [Slice]] {
    (adapter.lowestLayer..<pass.config.layerCount).reversed().map { layer in { [unowned self] in pass.backward(layer) }
    }
  }

  // MARK: the update

  /// Slices that sum the squares of one of the adapter's buffers, the last of which hands the sum on.
  private func squares(of values: AlignedBuffer<Float>, then: @escaping (Double) -> Void) -> [Slice] {
    var total = 0.0
    return adapter.pieces.map { piece in
      { [unowned self] in
        total += pass.compute.sumOfSquares(values.pointer + piece.lowerBound, count: piece.count)
        if piece.upperBound == values.count { then(total) }
      }
    }
  }

  private func takeGradient(_ squares: Double) {
    current.gradientNorm = squares.squareRoot()
    guard current.loss.isFinite, current.gradientNorm.isFinite else {
      return rollBack(
        current.loss.isFinite ? "the gradient is not finite" : "the loss is not finite", in: progress.step + 1)
    }
    isUpdating = true
  }

  private func update() -> [Slice] {
    let rate = schedule.rate(step: progress.step)
    let limit = hyperparameters.maxGradNorm
    // As torch's clip_grad_norm_.
    let clip = limit > 0 ? min(1, limit / (current.gradientNorm + 1e-6)) : 1
    func step(_ rate: Double) -> AdamWStep {
      AdamWStep(
        learningRate: rate, beta1: hyperparameters.adamBeta1, beta2: hyperparameters.adamBeta2,
        epsilon: hyperparameters.adamEpsilon, weightDecay: hyperparameters.weightDecay, count: progress.step + 1,
        gradientFactor: clip)
    }
    let (a, b) = (step(rate), step(rate * hyperparameters.loraPlusRatio))
    // Two pieces' memory to one that is only read.
    let most = TrainableAdapter.pieceSize / 2
    var groups: [[(range: Range<Int>, isB: Bool)]] = [[]]
    var size = 0
    for piece in adapter.updateRanges(size: most) {
      if size > 0, size + piece.range.count > most {
        groups.append([])
        size = 0
      }
      groups[groups.count - 1].append(piece)
      size += piece.range.count
    }
    return groups.map { group in
      { [unowned self] in
        for piece in group {
          let at = piece.range.lowerBound
          pass.compute.adamW(
            piece.isB ? b : a, parameters: adapter.parameter(at), gradients: adapter.gradient(at),
            mean: adapter.mean.pointer + at, variance: adapter.variance.pointer + at, count: piece.range.count)
        }
      }
    }
  }

  /// - Parameter squares: of the parameters, summed
  private func completeStep(_ squares: Double) {
    guard squares.isFinite else { return rollBack("the adapter is not finite", in: progress.step + 1) }
    progress.step += 1
    isUpdating = false
    progress.tokens += current.tokens
    progress.history.append(current.loss)
    events.append(
      .metrics(
        StepMetrics(
          step: progress.step,
          epoch: Double(progress.step * hyperparameters.rowsPerStep) / Double(data.training.count),
          trainLoss: current.loss, accuracy: Double(current.correct) / Double(max(current.scored, 1)),
          gradNorm: current.gradientNorm, learningRate: schedule.rate(step: progress.step - 1),
          tokens: current.tokens, lossTokens: current.lossTokens)))
  }
}
