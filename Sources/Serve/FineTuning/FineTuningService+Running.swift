import Formats
import Foundation
import Logging
import Model
import Train

/// The job that runs, from its data to its result.
extension FineTuningService {
  /// A job ready to run.
  struct Prepared: Sendable {
    var trainer: Trainer
    var data: TrainingData
    var memory: Int
    /// Checkpoints that are on the disk.
    var checkpoints: [(step: Int, folder: URL)]
  }

  // MARK: the beginning

  /// Reads the data and makes the trainer, at the newest checkpoint if there is one. On `preparation`.
  /// - Parameter stop: raised when the job is not to run after all
  func prepare(_ job: FineTuningJob, stop: StopFlag) throws(FineTuningError) -> Prepared {
    let folder = folder(job.id)
    do {
      let settings = try job.hyperparameters()
      let rows = try data.read(
        training: folder.training, validation: folder.hasValidation ? folder.validation : nil, settings,
        stop: stop)
      let initial = folder.hasInitial ? folder.initial : nil
      let forecast = try data.checkMemory(
        rows, settings, initial: initial, limit: environment.limits.memory, freed: 0)
      let configuration = TrainerConfiguration(
        folder: folder.run, baseName: environment.baseName, initialAdapter: initial,
        // Those that are still to be published are among the newest.
        checkpointsKept: environment.limits.checkpointsKept + 2,
        // What was told of steps is written before the checkpoint that makes them lasting.
        willWrite: { [queue] in queue.sync {} }, onWritten: { [engine = environment.engine] in engine.resumeWork() })
      let trainer = try Trainer(
        base: environment.base, compute: environment.compute, data: rows, hyperparameters: settings,
        configuration: configuration, resume: true)
      return Prepared(
        trainer: trainer, data: rows, memory: forecast.extra, checkpoints: trainer.checkpointFolders)
    } catch let error as FineTuningError {
      throw error
    } catch {
      throw FineTuningError(.invalid, "\(error)", code: "preparation_failed")
    }
  }

  /// Hands the trainer to the engine. On the queue.
  func begin(_ result: Result<Prepared, FineTuningError>) {
    guard let running = current else { return }
    if let wish = running.wish { return settle(wish, saving: nil) }
    let prepared: Prepared
    do throws(FineTuningError) { prepared = try result.get() } catch {
      return settle(
        .fail(.init(code: error.code ?? "server_error", message: error.message, param: error.param)), saving: nil)
    }
    let trainer = prepared.trainer
    let task = TrainingTask(trainer) { [self] events in
      queue.async { [self] in events.forEach(take) }
    } onEnd: { [self] in
      queue.async { [self] in ended() }
    }
    let isFresh = trainer.step == 0
    current?.task = task
    current?.memory = prepared.memory
    current?.began = .now
    current?.firstStep = trainer.step
    current?.usedBefore = running.job.usedSeconds
    current?.step = trainer.step
    current?.job.status = .running
    current?.job.totalSteps = trainer.totalSteps
    current?.job.trainedTokens = trainer.tokens
    let message = isFresh ? "Fine-tuning job started" : "Fine-tuning job goes on from step \(trainer.step)"
    guard
      record(
        [event(message)], forgetting: RepeatedEvents(after: trainer.step, concludesStep: trainer.isConclusionDue))
    else {
      return settle(current?.wish ?? .shutDown, saving: nil)
    }
    if let job = current?.job {
      current?.lastMetrics = metrics(of: job.id, step: trainer.step)
      let known = (try? database.checkpointSteps(of: job.id)) ?? []
      for (step, folder) in prepared.checkpoints.suffix(environment.limits.checkpointsKept)
      where !known.contains(step) {
        publish(step, folder, metrics(of: job.id, step: step))
      }
      logger.info(
        "fine-tuning", metadata: ["job": .string(job.id), "step": "\(trainer.step)", "steps": "\(trainer.totalSteps)"])
    }
    // After the engine's end nothing changes any more.
    if !environment.engine.perform(task) { settle(.shutDown, saving: nil) }
  }

  // MARK: on the way

  /// Tells what the trainer reports.
  private func take(_ report: TrainerEvent) {
    guard let job = current?.job else { return }
    switch report {
    case .metrics(let step): takeMetrics(step)
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
    case .finished(_, let folder): finish(job, folder)
    // `ended` sees to it.
    case .failed: break
    }
  }

  private func takeMetrics(_ step: StepMetrics) {
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
    var told = event("Step \(step.step)/\(total): training loss=\(Self.rounded(step.trainLoss))", step: step.step)
    told.metrics = data
    countTurn(step: step.step, of: total)
    record([told])
  }

  private static func rounded(_ loss: Double) -> String { String(format: "%.2f", loss) }

  /// What was told of a step.
  private func metrics(of job: String, step: Int) -> JSONObject? {
    let told = (try? database.stepEvents(of: job, step: step)) ?? []
    let pairs = told.compactMap { $0.object?["data"]?.object?.pairs }
    return pairs.isEmpty ? nil : JSONObject(keepingFirst: Array(pairs.reversed().joined()))
  }

  /// Makes a checkpoint an adapter that requests can name, and lists it.
  /// - Parameter known: figures of its step
  private func publish(_ step: Int, _ folder: URL, _ known: JSONObject?) {
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
          dropCheckpoints(of: job.id)
        case .failure(let error):
          record([event("The checkpoint of step \(step) cannot be served: \(error)", level: .warn)])
        }
      }
    }
  }

  /// Takes the oldest checkpoints' names away, and what they hold with them.
  private func dropCheckpoints(of job: String) {
    let names: [String]
    do { names = try database.dropCheckpoints(of: job, keeping: environment.limits.checkpointsKept) } catch {
      return logger.warning("old checkpoints cannot be dropped", metadata: ["error": .string("\(error)")])
    }
    publishing.async { [self] in
      for name in names { try? environment.adapters.remove(name: name) }
    }
  }

  // MARK: the end

  /// The trainer stands still.
  private func ended() {
    guard let task = current?.task else { return }
    switch task.trainer.state {
    // `finish` sees to it, which was called before.
    case .finished: break
    case .failed(let reason):
      settle(.fail(.init(code: "training_failed", message: reason)), saving: nil)
    case .running:
      let wish = current?.wish ?? .shutDown
      if wish == .pause || wish == .giveWay || wish == .shutDown {
        saving.async { [self] in
          // What it reports is found out again when the job goes on.
          let saved = Result { _ = try task.trainer.saveCheckpoint() }
          queue.async { [self] in settle(wish, saving: saved) }
        }
      } else {
        settle(wish, saving: nil)
      }
    }
  }

  /// The trained adapter gets its name, and the job its end.
  private func finish(_ job: FineTuningJob, _ folder: URL?) {
    guard let folder else { return }
    publishing.async { [self] in
      let result = Result {
        do throws(AdapterError) {
          _ = try environment.adapters.load(name: job.resultName, folder: folder, origin: nil)
        } catch {
          throw FineTuningError(.invalid, "\(error)", code: "adapter_refused")
        }
        return try writeResults(of: job)
      }
      queue.async { [self] in
        guard current?.job.id == job.id else { return }
        switch result {
        case .success(let file): succeed(file)
        case .failure(let error):
          let code = (error as? FineTuningError)?.code ?? "storage_failed"
          settle(.fail(.init(code: code, message: "\(error)")), saving: nil)
        }
      }
    }
  }

  /// Makes a file of the job's figures, which were all written down by now.
  private func writeResults(of job: FineTuningJob) throws -> StoredFile {
    var table = ResultTable()
    try database.forEachStepEvent(of: job.id) { table.add($0) }
    return try environment.files.add(
      Array(table.csv().utf8), filename: "step_metrics.csv", purpose: "fine-tune-results", createdAt: Self.now)
  }

  private func succeed(_ results: StoredFile) {
    guard var job = current?.job else { return }
    job.resultFiles = [results.id]
    job.status = .succeeded
    job.fineTunedModel = job.resultName
    job.trainedTokens = current?.task?.trainer.tokens
    job.finishedAt = Self.now
    job.estimatedFinish = nil
    current?.job = job
    recordEnd([
      event("New fine-tuned model created: \(job.resultName)"), event("The job has successfully completed"),
    ])
    logger.info("fine-tuned", metadata: ["job": .string(job.id), "model": .string(job.resultName)])
    leave()
  }

  /// Writes down how a job ended, or keeps it in mind until that can be written.
  private func recordEnd(_ events: [FineTuningEvent]) {
    guard let job = current?.job else { return }
    if !record(events) { unsaved[job.id] = job }
    if job.status.isOver { folder(job.id).remove() }
  }

  /// The job no longer runs, for this reason.
  private func settle(_ wish: Wish, saving: Result<Void, any Error>?) {
    guard var job = current?.job else { return }
    var told: [FineTuningEvent] = []
    var wish = wish
    if case .failure(let error) = saving, wish == .pause || wish == .giveWay {
      wish = .fail(.init(code: "storage_failed", message: "the checkpoint cannot be written: \(error)"))
    }
    job.estimatedFinish = nil
    switch wish {
    case .pause:
      job.status = .paused
      told.append(event("The job has been paused"))
    case .giveWay:
      job.status = .queued
      told.append(event("The job gives way to others after step \(current?.step ?? 0), and waits for its next turn"))
    case .cancel:
      job.status = .cancelled
      job.finishedAt = Self.now
      told.append(event("The job has been cancelled"))
    case .fail(let failure):
      job.status = .failed
      job.finishedAt = Self.now
      job.failure = failure
      told.append(event("The job failed: \(failure.message)", level: .error))
      logger.warning(
        "fine-tuning failed", metadata: ["job": .string(job.id), "reason": .string(failure.message)])
    // The next process goes on with it.
    case .shutDown: break
    }
    current?.job = job
    if wish != .shutDown { recordEnd(told) }
    leave()
  }
}
