import Formats
import Foundation
import Logging
import Model
import Train

/// Records what the running job reports, and publishes its checkpoints. On the queue.
extension FineTuningService {
  /// Records an event of the trainer.
  func handle(_ report: TrainerEvent) {
    switch report {
    case .metrics(let step): handle(step)
    case .validation(let validation):
      let data: JSONValue = [
        "step": .integer(validation.step), "valid_loss": .number(validation.loss),
        "valid_mean_token_accuracy": .number(validation.accuracy),
      ]
      let earlier = current?.lastMetrics?.pairs ?? []
      current?.lastMetrics = JSONObject(keepingFirst: (data.object?.pairs ?? []) + earlier)
      record([
        event(
          "Step \(validation.step): validation loss=\(Self.rounded(validation.loss))", step: validation.step,
          data: data)
      ])
    case .checkpoint(let step, let folder): publish(step, folder, current?.lastMetrics)
    case .rolledBack(let from, let to, let reason):
      record(
        [event("\(reason) in step \(from): going back to step \(to)", level: .warn)],
        forgetting: RepeatedEvents(after: to, concludesStep: false))
    case .stoppedEarly(let step, let best):
      record([
        event("Stopped after step \(step), since validation no longer improves; step \(best) was the best", step: step)
      ])
    // `ended` handles these two.
    case .finished, .failed: break
    }
  }

  private func handle(_ step: StepMetrics) {
    guard var running = current else { return }
    let total = running.job.totalSteps ?? step.step
    running.step = step.step
    running.job.trainedTokens = (running.job.trainedTokens ?? 0) + step.tokens
    let done = Double(step.step - running.firstStep)
    if done > 0 {
      let seconds = running.began.duration(to: .now) / .seconds(1) / done * Double(total - step.step)
      running.job.estimatedFinish = Self.now + Int(min(seconds.rounded(.up), 1e9))
    }
    let data: JSONValue = [
      "step": .integer(step.step), "total_steps": .integer(total), "train_loss": .number(step.trainLoss),
      "train_mean_token_accuracy": .number(step.accuracy), "grad_norm": .number(step.gradNorm),
      "learning_rate": .number(step.learningRate), "tokens": .integer(step.tokens),
      "loss_tokens": .integer(step.lossTokens), "epoch": .number(step.epoch),
    ]
    running.lastMetrics = data.object
    current = running
    var stepEvent = event("Step \(step.step)/\(total): training loss=\(Self.rounded(step.trainLoss))", step: step.step)
    stepEvent.metrics = data
    countTurn(step: step.step, of: total)
    logProgress(step, of: total)
    record([stepEvent])
  }

  /// Logs a step's loss and the time left, at most once in ten seconds, and with the last step.
  private func logProgress(_ step: StepMetrics, of total: Int) {
    guard let running = current else { return }
    let now = ContinuousClock.now
    guard step.step == total || running.logged.map({ now - $0 >= .seconds(10) }) ?? true else { return }
    current?.logged = now
    let left = running.job.estimatedFinish.map { "\(max($0 - Self.now, 0))" } ?? "unknown"
    logger.info(
      "training",
      metadata: [
        "job": .string(running.job.id), "step": "\(step.step)/\(total)",
        "loss": .string(String(format: "%.4f", step.trainLoss)), "seconds_left": .string(left),
      ])
  }

  private static func rounded(_ loss: Double) -> String { String(format: "%.2f", loss) }

  /// The figures of a step, from its recorded events.
  func metrics(of job: String, step: Int) -> JSONObject? {
    let events = (try? database.stepEvents(of: job, step: step)) ?? []
    let pairs = events.compactMap { $0.object?["data"]?.object?.pairs }
    return pairs.isEmpty ? nil : JSONObject(keepingFirst: Array(pairs.reversed().joined()))
  }

  /// Registers a checkpoint as an adapter that requests can name, and lists it.
  /// - Parameter known: the figures of its step
  func publish(_ step: Int, _ folder: URL, _ known: JSONObject?) {
    guard let job = current?.job else { return }
    let name = FineTuningNames.checkpoint(job.resultName, step: step)
    var metrics: [(key: String, value: JSONValue)] = [("step", .integer(step))]
    for key in ["train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    where known?["step"]?.integer == step {
      if let value = known?[key] { metrics.append((key, value)) }
    }
    let checkpoint = FineTuningCheckpoint(
      job: job.id, step: step, createdAt: Self.now, model: name,
      metrics: .object(JSONObject(keepingFirst: metrics)))
    publishing.async { [self] in
      let result = Result { () throws(AdapterError) in
        try environment.adapters.load(name: name, folder: folder, origin: nil)
      }
      queue.async { [self] in
        guard current?.job.id == job.id else { return }
        switch result {
        case .success:
          record([event("Checkpoint created at step \(step)", data: ["step": .integer(step)])], checkpoint: checkpoint)
          makeSamples(of: checkpoint)
          dropCheckpoints(of: job.id)
        case .failure(let error):
          record([event("The checkpoint of step \(step) cannot be served: \(error)", level: .warn)])
        }
      }
    }
  }

  /// Deletes the oldest checkpoints' adapters, so that only as many remain as the limit allows.
  private func dropCheckpoints(of job: String) {
    let names: [String]
    do { names = try database.dropCheckpoints(of: job, keeping: environment.limits.checkpointsKept) } catch {
      return logger.warning("old checkpoints cannot be dropped", metadata: ["error": .string("\(error)")])
    }
    publishing.async { [self] in
      for name in names { try? environment.adapters.remove(name: name) }
    }
  }
}
