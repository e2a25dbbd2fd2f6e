import Foundation
import Train

/// The run's progress on standard error: one line that is redrawn on a terminal, otherwise a line for every event.
struct TrainingLine {
  let steps: Int
  private let first: Int
  private let started = ContinuousClock.now
  private let isTerminal = isatty(2) == 1
  private var tokens = 0

  init(steps: Int, done: Int) {
    self.steps = steps
    first = done
  }

  mutating func show(_ event: TrainerEvent) {
    switch event {
    case .metrics(let step):
      tokens += step.tokens
      let seconds = started.duration(to: .now) / .seconds(1)
      let left = seconds / Double(step.step - first) * Double(steps - step.step)
      let text = String(
        format: "step %d/%d  loss %.4f  norm %.3f  rate %.2e  %.0f tokens/s  %@ left", step.step, steps,
        step.trainLoss, step.gradNorm, step.learningRate, Double(tokens) / seconds, Self.time(left))
      write(isTerminal ? "\r\u{1B}[K\(Self.bar(step.step, steps)) \(text)" : text + "\n")
    case .validation(let metrics):
      note(String(format: "validation loss %.4f%@", metrics.loss, metrics.isBest ? ", the best so far" : ""))
    case .checkpoint(_, let folder): note("checkpoint \(folder.path)")
    case .rolledBack(let from, let to, let reason): note("\(reason) in step \(from): back to step \(to)")
    case .stoppedEarly(let step, let best): note("stopped after step \(step); step \(best) was the best")
    case .finished, .failed: break
    }
  }

  func finish() { if isTerminal { write("\n") } }

  private func note(_ text: String) { write((isTerminal ? "\r\u{1B}[K" : "") + text + "\n") }
  private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

  private static func bar(_ done: Int, _ all: Int) -> String {
    let filled = done * 20 / max(all, 1)
    return String(repeating: "█", count: filled) + String(repeating: "░", count: 20 - filled)
  }

  private static func time(_ seconds: Double) -> String {
    let whole = Int(min(seconds, 1e7).rounded(.up))
    if whole < 120 { return "\(whole) s" }
    return whole < 7200 ? "\(whole / 60) min" : "\(whole / 3600) h \(whole / 60 % 60) min"
  }
}
