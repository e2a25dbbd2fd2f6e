/// Cross-entropy on the labelled tokens.
struct SupervisedLoss: TrainingLoss {
  func divisor(
    of positions: Range<Int>, _ data: TrainingData, _ order: EpochOrder, _ slices: any TrainingSlices
  ) throws(TrainingInterruption) -> Int {
    let size = data.training.count
    let (first, last) = (positions.lowerBound / size, (positions.upperBound - 1) / size)
    // All epochs between the first and the last are complete.
    var total = max(last - first - 1, 0) * data.lossTotal
    for epoch in Set([first, last]).sorted() {
      let part = positions.clamped(to: epoch * size..<(epoch + 1) * size)
      if part.count == size {
        total += data.lossTotal
      } else {
        try order.prepare(part, slices)
        try slices.slices(over: part.count, size: EpochOrder.chunkSize) { range in
          total += range.reduce(0) { $0 + Int(data.lossCounts[order.example(at: part.lowerBound + $1)]) }
        }
      }
    }
    return total
  }

  func prepare(_ microbatch: Microbatch, _ model: TrainingModel, _ slices: any TrainingSlices) {}

  func score(_ pass: TrainingPass) throws(TrainingInterruption) -> LossSum { sum(pass, try pass.head()) }

  func gradient(_ pass: TrainingPass, divisor: Int) throws(TrainingInterruption) -> LossSum {
    let weight = 1 / Float(divisor)
    return sum(pass, try pass.head(weights: Array(repeating: weight, count: pass.microbatch.rows.count)))
  }

  private func sum(_ pass: TrainingPass, _ losses: LabelLosses) -> LossSum {
    LossSum(sum: losses.total, correct: losses.correct, count: pass.microbatch.targets.count)
  }
}
