import Formats
import Foundation
import Logging
import Model
import Train

/// The running job's thread, from reading the data to the trained adapter.
extension FineTuningService {
  /// How the thread ended.
  enum RunEnd: Sendable {
    /// The data could not be read, or the trainer could not be created.
    case notPrepared(FineTuningError)
    /// The job was stopped. `saved` is the result of writing its checkpoint; `nil` if none was wanted.
    case stopped(saved: Result<Void, any Error>?)
    case failed(reason: String)
    /// `adapter` is the folder of the final one; `tokens` counts the rows of every step.
    case finished(adapter: URL?, tokens: Int)
  }

  /// What the queue has to know of a job whose trainer was created.
  struct RunStart: Sendable {
    /// Steps made before.
    var step: Int
    var totalSteps: Int
    /// Tokens of these steps.
    var tokens: Int
    var isConclusionDue: Bool
    /// Bytes that are freed when the job ends.
    var memory: Int
    /// Checkpoints that are on the disk.
    var checkpoints: [(step: Int, folder: URL)]
  }

  /// Starts the job's thread. It owns the trainer, and reports to the queue.
  func startThread(_ job: FineTuningJob, _ run: TrainingRun) {
    let thread = Thread { [self] in
      // The trainer is freed when this returns.
      let end = train(job, run)
      queue.async { [self] in ended(end) }
    }
    thread.name = "training"
    thread.stackSize = 4 << 20
    thread.start()
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
      try trainer.run(turns: run) { event in
        if case .finished(_, let folder) = event { adapter = folder }
        queue.async { [self] in handle(event) }
      }
    } catch {
      // The checkpoint's event is reported again when the job continues.
      return .stopped(saved: run.savesCheckpoint ? Result { _ = try trainer.saveCheckpoint() } : nil)
    }
    if case .failed(let reason) = trainer.state { return .failed(reason: reason) }
    return .finished(adapter: adapter, tokens: trainer.tokens)
  }

  /// Reads the data and creates the trainer, at the newest checkpoint if there is one. On the job's thread.
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
        // The newest may still have to be published.
        checkpointsKept: environment.limits.checkpointsKept + 2, finalAdapter: .checkpoint,
        // Events of steps are in the database before the checkpoint that makes the steps permanent.
        willWrite: { [queue] in queue.sync {} })
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

  /// Records that the job trains from now on. On the queue.
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
