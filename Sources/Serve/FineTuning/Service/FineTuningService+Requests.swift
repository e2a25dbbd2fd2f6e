import Formats
import Foundation
import Model
import Train

/// The operations that clients ask for. All run on the queue, except `create`.
extension FineTuningService {
  // MARK: making a job

  /// Checks everything about a job, and queues it. Runs on `validation`, because it reads the data.
  /// - Throws: `FineTuningError`, with all errors of the data at once
  func create(_ request: FineTuningRequest) throws(FineTuningError) -> FineTuningJob {
    let (settings, training, validation, initial) = try inputs(of: request)
    let id = RandomName.make(FineTuningFolder.prefix, length: 24)
    var job = FineTuningJob(
      id: id,
      resultName: FineTuningNames.result(
        base: environment.baseName, suffix: request.suffix, id: RandomName.make("", length: 8)),
      createdAt: Self.now, model: request.model, base: environment.base.fingerprint, method: request.method,
      seed: request.seed, requested: request.hyperparameters, trainingFile: request.trainingFile,
      validationFile: request.validationFile, metadata: request.metadata, samplePrompts: request.samplePrompts)
    job.status = .validatingFiles
    let stop = StopFlag()
    do {
      try queue.sync { [job] in
        guard !state.isStopping else { throw FineTuningError(.stopping, "the server is stopping") }
        let message = "Validating training file: \(request.trainingFile)"
        try database.save(job, events: [event("Created fine-tuning job: \(id)"), event(message)])
        state.checking[id] = stop
      }
      defer { queue.sync { state.checking[id] = nil } }
      let freed = queue.sync { current?.memory ?? 0 }
      let room = FineTuningData.room(limit: environment.limits.memory, freed: freed)
      let rows = try data.read(training: training, validation: validation, settings, room: room, stop: stop)
      let forecast = try data.checkMemory(
        rows, settings, initial: initial, limit: environment.limits.memory, freed: freed)
      try folder(id).create(training: training, validation: validation, initial: initial)
      job.cutRows = rows.cutCount
      job.losslessRows = rows.lossless
      return try queue.sync { [job] in try accept(job, accepted(job, rows, forecast)) }
    } catch {
      folder(id).remove()
      if let stored = try? queue.sync(execute: { try database.job(id) }), stored.status == .cancelled { return stored }
      // A job that was not accepted leaves no record.
      try? queue.sync { try database.deleteJob(id) }
      throw error as? FineTuningError ?? FineTuningError(.storage, "\(error)", code: "storage_failed")
    }
  }

  /// Queues a job whose data was found valid, unless it was cancelled meanwhile. On the queue.
  private func accept(_ job: FineTuningJob, _ events: [FineTuningEvent]) throws -> FineTuningJob {
    if let stored = try database.job(job.id), stored.status == .cancelled {
      folder(job.id).remove()
      return stored
    }
    var job = job
    job.status = .queued
    job.usedSeconds = FineTuningTurns.start(of: 0, among: try competitors(of: job.id))
    try database.save(job, events: events + [event("Files validated, moving job to queued state")])
    notify(job.id)
    queue.async { [self] in startNextJob() }
    return job
  }

  /// The events that describe valid data.
  private func accepted(
    _ job: FineTuningJob, _ rows: TrainingData, _ forecast: MemoryForecast
  ) -> [FineTuningEvent] {
    let count = rows.training.count
    var message = "\(count) examples, \(rows.validation.count) for validation"
    if job.cutRows > 0 { message += "; \(job.cutRows) cut to the length limit" }
    if job.losslessRows > 0 { message += "; \(job.losslessRows) without loss left out" }
    message += "; about \((forecast.extra + 0xFFFFF) >> 20) MiB beside the model"
    let summary = event(
      message, level: job.cutRows + job.losslessRows > 0 ? .warn : .info,
      data: [
        "examples": .integer(count), "validation_examples": .integer(rows.validation.count),
        "cut_rows": .integer(job.cutRows), "lossless_rows": .integer(job.losslessRows),
        "memory_bytes": .integer(forecast.extra),
      ])
    return rows.mappings.map { event($0.description, data: ["mapping": .string($0.rawValue)]) } + [summary]
  }

  /// A request's settings, checked against the model, and the paths of its files and of the adapter that training continues
  /// from.
  func inputs(
    of request: FineTuningRequest
  ) throws(FineTuningError) -> (settings: Hyperparameters, training: URL, validation: URL?, initial: URL?) {
    let settings: Hyperparameters
    do throws(HyperparameterError) {
      settings = try Hyperparameters(json: request.hyperparameters, method: request.method, seed: request.seed)
    } catch {
      let param = "method.\(request.method.rawValue).hyperparameters.\(error.field)"
      throw FineTuningError(.invalid, "\(error)", param: param, code: "invalid_hyperparameter")
    }
    let training = try upload(request.trainingFile, "training_file")
    var validation: URL?
    if let id = request.validationFile { validation = try upload(id, "validation_file") }
    let initial = try request.initial.map { initial throws(FineTuningError) in try contents(initial) }
    try checkTargets(settings, initial: initial)
    return (settings, training, validation, initial)
  }

  private func upload(_ id: String, _ param: String) throws(FineTuningError) -> URL {
    let file: StoredFile
    do throws(FileStoreError) { file = try environment.files.file(id) } catch {
      guard case .unknown = error else { throw FineTuningError(.storage, "\(error)") }
      throw FineTuningError(.invalid, "invalid \(param): \(id)", param: param, code: "file_not_found")
    }
    guard file.purpose == "fine-tune" else {
      throw FineTuningError(
        .invalid, "the file \(id) has the purpose '\(file.purpose)', not 'fine-tune'", param: param,
        code: "invalid_file_purpose")
    }
    let url = environment.files.location(id)
    let size = (try? FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int) ?? nil
    guard size == file.bytes else {
      throw FineTuningError(
        .storage, "the contents of \(id) are \(size ?? 0) bytes, not the \(file.bytes) that were stored", param: param)
    }
    return url
  }

  private func contents(_ initial: FineTuningRequest.Initial) throws(FineTuningError) -> URL {
    let store = environment.adapters
    let reference = initial.reference
    let record = store[reference.name]
    let version = reference.version.map { number in record?.version(number) } ?? record?.current
    guard let version, version.base == environment.base.fingerprint else {
      throw FineTuningError(
        .unknownModel, "The model or adapter '\(reference.name)' does not exist", param: initial.param,
        code: "model_not_found")
    }
    return store.contents.location(version.contentHash)
  }

  /// Checks the settings against the model, or against the adapter that training continues from, before the data is
  /// read.
  private func checkTargets(_ settings: Hyperparameters, initial folder: URL?) throws(FineTuningError) {
    do {
      if let folder {
        try TrainableAdapter.check(peft: folder, settings, model: environment.base.config)
      } else {
        _ = try settings.targets(environment.base.config)
      }
    } catch {
      let field = (error as? HyperparameterError)?.field ?? "init_adapter"
      throw FineTuningError(
        .invalid, "\(error)", param: "method.\(settings.method.rawValue).hyperparameters.\(field)",
        code: "invalid_hyperparameter")
    }
  }

  // MARK: looking up

  func job(_ id: String) throws(FineTuningError) -> FineTuningJob {
    if let current, current.job.id == id { return current.job }
    if let job = state.unsaved[id] { return job }
    let found: FineTuningJob?
    do { found = try database.job(id) } catch { throw FineTuningError(.storage, "\(error)") }
    guard let found else { throw .unknownJob(id) }
    return found
  }

  // MARK: cancelling, pausing and resuming

  /// Cancels a job, and calls `then` when it has stopped.
  func cancel(_ id: String, then: @escaping (Result<FineTuningJob, FineTuningError>) -> Void) {
    change(id, .cancel, from: [.validatingFiles, .queued, .running, .paused], then) { job in
      job.status = .cancelled
      job.finishedAt = Self.now
      job.estimatedFinish = nil
      return "The job has been cancelled"
    }
  }

  func pause(_ id: String, then: @escaping (Result<FineTuningJob, FineTuningError>) -> Void) {
    change(id, .pause, from: [.queued, .running], then) { job in
      job.status = .paused
      job.estimatedFinish = nil
      return "The job has been paused"
    }
  }

  func resume(_ id: String) throws(FineTuningError) -> FineTuningJob {
    var job = try self.job(id)
    guard job.status == .paused else { throw Self.wrongState(job, "resumed") }
    job.status = .queued
    do {
      job.usedSeconds = FineTuningTurns.start(of: job.usedSeconds, among: try competitors(of: id))
      try database.save(job, events: [event("The job has been resumed")])
    } catch {
      throw FineTuningError(.storage, "\(error)")
    }
    notify(id)
    startNextJob()
    return job
  }

  private static func wrongState(_ job: FineTuningJob, _ what: String) -> FineTuningError {
    FineTuningError(
      .invalid, "Job has status '\(job.status.rawValue)' and cannot be \(what).", param: "fine_tuning_job_id",
      code: "invalid_job_state")
  }

  private func change(
    _ id: String, _ reason: StopReason, from states: [FineTuningJob.Status],
    _ then: @escaping (Result<FineTuningJob, FineTuningError>) -> Void, _ apply: (inout FineTuningJob) -> String
  ) {
    do throws(FineTuningError) {
      var job = try self.job(id)
      guard states.contains(job.status) else {
        throw Self.wrongState(job, reason == .cancel ? "cancelled" : "paused")
      }
      if current?.job.id == id {
        // A later pause does not replace a cancellation.
        if [nil, .pause, .giveWay].contains(current?.stopReason) { current?.stopReason = reason }
        current?.whenStopped.append { then(.success($0)) }
        return stopRun()
      }
      let message = apply(&job)
      do { try database.save(job, events: [event(message)]) } catch {
        throw FineTuningError(.storage, "\(error)")
      }
      if job.status.isOver {
        state.checking[id]?.raise()
        folder(id).remove()
      }
      notify(id)
      then(.success(job))
    } catch {
      then(.failure(error))
    }
  }
}
