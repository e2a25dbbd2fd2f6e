import Formats
import Foundation
import Logging
import Model
import Train

/// What the training thread does for the running job: it reads the data and trains the adapter.
extension FineTuningService {
  /// How the training ended.
  enum RunEnd: Sendable {
    /// The data could not be read, or the trainer could not be created.
    case notPrepared(FineTuningError)
    /// The job was stopped. `saved` is the result of writing its checkpoint; `nil` if none was wanted.
    case stopped(saved: Result<Void, any Error>?)
    case failed(reason: String)
    /// `adapter` is the folder of the final adapter; `tokens` counts the rows of every step.
    case finished(adapter: URL?, tokens: Int)
  }

  /// What the thread reports to the queue when it has created the trainer.
  struct RunStart: Sendable {
    /// Steps made in earlier runs of the job.
    var step: Int
    var totalSteps: Int
    /// Tokens of the rows of these steps.
    var tokens: Int
    var isConclusionDue: Bool
    /// Bytes that will be freed when the job ends.
    var memory: Int
    /// Checkpoints that are on the disk.
    var checkpoints: [(step: Int, folder: URL)]
  }

  /// Trains the job on the training thread, which owns the trainer, and reports to the queue.
  func startTraining(_ job: FineTuningJob, _ run: TrainingRun) {
    trainingThread.async { [self] in
      // The trainer is freed when `train` returns.
      let end = train(job, run)
      run.leavePool()
      queue.async { [self] in ended(end) }
    }
  }

  private func train(_ job: FineTuningJob, _ run: TrainingRun) -> RunEnd {
    let (trainer, memory): (Trainer, Int)
    do throws(FineTuningError) { (trainer, memory) = try prepare(job, run) } catch { return .notPrepared(error) }
    let start = RunStart(
      step: trainer.step, totalSteps: trainer.totalSteps, tokens: trainer.tokens,
      isConclusionDue: trainer.isConclusionDue, memory: memory, checkpoints: trainer.checkpointFolders)
    guard queue.sync(execute: { begin(start) }) else { return .stopped(saved: nil) }
    var adapter: URL?
    do throws(TrainingInterruption) {
      try trainer.run(slices: run) { event in
        if case .finished(_, let folder) = event { adapter = folder }
        queue.async { [self] in handle(event) }
      }
    } catch {
      // The checkpoint's event is not recorded now; it is reported when the job continues.
      return .stopped(saved: run.savesCheckpoint ? Result { _ = try trainer.saveCheckpoint() } : nil)
    }
    if case .failed(let reason) = trainer.state { return .failed(reason: reason) }
    return .finished(adapter: adapter, tokens: trainer.tokens)
  }

  /// Reads the data, and creates the trainer, which continues from the newest checkpoint if there is one. On the
  /// training thread.
  private func prepare(
    _ job: FineTuningJob, _ run: TrainingRun
  ) throws(FineTuningError) -> (trainer: Trainer, memory: Int) {
    let folder = folder(job.id)
    do {
      let settings = try job.hyperparameters()
      let rows = try data.read(
        training: folder.training, validation: folder.hasValidation ? folder.validation : nil, settings,
        stop: run.stopFlag)
      let initial = folder.hasInitial ? folder.initial : nil
      let forecast = try data.checkMemory(
        rows, settings, initial: initial, limit: environment.limits.memory, freed: 0)
      let configuration = TrainerConfiguration(
        folder: folder.run, baseName: environment.baseName, initialAdapter: initial,
        // Two more than can be named, because the newest may not be registered yet.
        checkpointsKept: environment.limits.checkpointsKept + 2, finalAdapter: .checkpoint,
        // Waits until the events of the steps are in the database, because the checkpoint makes those steps permanent.
        willWrite: { [queue] in
          run.leavePool()
          queue.sync {}
        })
      let trainer = try Trainer(
        base: environment.base, compute: environment.compute, data: rows, hyperparameters: settings,
        configuration: configuration, resume: true)
      return (trainer, forecast.extra)
    } catch let error as FineTuningError {
      throw error
    } catch {
      throw FineTuningError(.invalid, "\(error)", code: "preparation_failed")
    }
  }

  /// Records that the job is running. On the queue.
  /// - Returns: false if the job was stopped meanwhile or cannot be recorded
  private func begin(_ start: RunStart) -> Bool {
    guard let running = current, running.stopReason == nil else { return false }
    current?.memory = start.memory
    current?.began = .now
    current?.firstStep = start.step
    current?.usedBefore = running.job.usedSeconds
    current?.step = start.step
    current?.job.status = .running
    current?.job.totalSteps = start.totalSteps
    current?.job.trainedTokens = start.tokens
    let message =
      start.step == 0 ? "Fine-tuning job started" : "Fine-tuning job goes on from step \(start.step)"
    let repeated = RepeatedEvents(after: start.step, concludesStep: start.isConclusionDue)
    guard record([event(message)], forgetting: repeated) else { return false }
    let id = running.job.id
    current?.lastMetrics = metrics(of: id, step: start.step)
    let known = (try? database.checkpointSteps(of: id)) ?? []
    for (step, folder) in start.checkpoints.suffix(environment.limits.checkpointsKept) where !known.contains(step) {
      publish(step, folder, metrics(of: id, step: step))
    }
    logger.info(
      "fine-tuning", metadata: ["job": .string(id), "step": "\(start.step)", "steps": "\(start.totalSteps)"])
    return true
  }
}
