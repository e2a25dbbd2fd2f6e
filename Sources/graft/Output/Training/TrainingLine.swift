import Foundation
import Train

/// The run's progress on standard error: one line that is redrawn on a terminal, otherwise a line for every event.
struct TrainingLine {
  let steps: Int
  private let first: Int
  private let started = ContinuousClock.now
  private let isTerminal = Terminal.error.isTerminal
  private var tokens = 0
  /// Those of the newest step and of the newest validation.
  private(set) var accuracies = Accuracies()

  /// Shares of tokens that were the most probable ones; of pairs, shares of pairs whose chosen answer gained more.
  struct Accuracies: Equatable {
    var training: Double?
    var validation: Double?
  }

  init(steps: Int, done: Int) {
    self.steps = steps
    first = done
  }

  mutating func show(_ event: TrainerEvent) {
    switch event {
    case .metrics(let step):
      tokens += step.tokens
      accuracies.training = step.accuracy
      let seconds = started.duration(to: .now) / .seconds(1)
      let left = seconds / Double(step.step - first) * Double(steps - step.step)
      let text = String(
        format: "step %d/%d  loss %.4f  accuracy %.0f %%  norm %.3f  rate %.2e  %.0f tokens/s  %@ left", step.step,
        steps, step.trainLoss, step.accuracy * 100, step.gradNorm, step.learningRate, Double(tokens) / seconds,
        Quantity.time(left))
      write(isTerminal ? "\r\u{1B}[K\(Quantity.bar(step.step, of: steps)) \(text)" : text + "\n")
    case .validation(let metrics):
      accuracies.validation = metrics.accuracy
      note(
        String(
          format: "validation loss %.4f%@  accuracy %.0f %%", metrics.loss, metrics.isBest ? ", the best so far" : "",
          metrics.accuracy * 100))
    case .checkpoint(_, let folder): note("checkpoint \(folder.path)")
    case .rolledBack(let from, let to, let reason): note("\(reason) in step \(from): back to step \(to)")
    case .stoppedEarly(let step, let best): note("stopped after step \(step); step \(best) was the best")
    case .finished, .failed: break
    }
  }

  func finish() { if isTerminal { write("\n") } }

  private func note(_ text: String) { write((isTerminal ? "\r\u{1B}[K" : "") + text + "\n") }
  private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
