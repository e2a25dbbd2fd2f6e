import Formats
import Foundation
import Logging
import Model
import Train

/// What happens when the running job's thread has ended. On the queue.
extension FineTuningService {
  /// Called when the job's thread has ended and its trainer is freed.
  func ended(_ how: RunEnd) {
    switch how {
    case .notPrepared(let error):
      let failure = FineTuningJob.Failure(
        code: error.code ?? "server_error", message: error.message, param: error.param)
      end(current?.stopReason ?? .fail(failure))
    case .stopped(let saved): end(current?.stopReason ?? .shutDown, saved: saved)
    case .failed(let reason): end(.fail(.init(code: "training_failed", message: reason)))
    case .finished(let adapter, let tokens): if let adapter { finish(adapter, tokens: tokens) }
    }
  }

  /// Registers the trained adapter under its name, and ends the job.
  private func finish(_ adapter: URL, tokens: Int) {
    guard let job = current?.job else { return }
    publishing.async { [self] in
      let result = Result {
        do throws(AdapterError) {
          _ = try environment.adapters.load(name: job.resultName, folder: adapter, origin: nil)
        } catch {
          throw FineTuningError(.invalid, "\(error)", code: "adapter_refused")
        }
        return try writeResults(of: job)
      }
      queue.async { [self] in
        guard current?.job.id == job.id else { return }
        switch result {
        case .success(let file): succeed(file, tokens: tokens)
        case .failure(let error):
          let code = (error as? FineTuningError)?.code ?? "storage_failed"
          end(.fail(.init(code: code, message: "\(error)")))
        }
      }
    }
  }

  /// Makes the result file from the events of the job's steps, which are all in the database by now.
  private func writeResults(of job: FineTuningJob) throws -> StoredFile {
    var table = ResultTable()
    try database.forEachStepEvent(of: job.id) { table.add($0) }
    return try environment.files.add(
      Array(table.csv().utf8), filename: "step_metrics.csv", purpose: "fine-tune-results", createdAt: Self.now)
  }

  private func succeed(_ results: StoredFile, tokens: Int) {
    guard var job = current?.job else { return }
    job.resultFiles = [results.id]
    job.status = .succeeded
    job.fineTunedModel = job.resultName
    job.trainedTokens = tokens
    job.finishedAt = Self.now
    job.estimatedFinish = nil
    current?.job = job
    recordEnd([
      event("New fine-tuned model created: \(job.resultName)"), event("The job has successfully completed"),
    ])
    logger.info("fine-tuned", metadata: ["job": .string(job.id), "model": .string(job.resultName)])
    clearCurrentJob()
  }

  /// Saves how a job ended. If that fails, keeps the job in `unsaved` to try again.
  private func recordEnd(_ events: [FineTuningEvent]) {
    guard let job = current?.job else { return }
    if !record(events) { state.unsaved[job.id] = job }
    if job.status.isOver { folder(job.id).remove() }
  }

  /// Ends the run of the job, for this reason.
  /// - Parameter saved: the result of writing its checkpoint
  private func end(_ reason: StopReason, saved: Result<Void, any Error>? = nil) {
    guard var job = current?.job else { return }
    var events: [FineTuningEvent] = []
    var reason = reason
    if case .failure(let error) = saved, reason == .pause || reason == .giveWay {
      reason = .fail(.init(code: "storage_failed", message: "the checkpoint cannot be written: \(error)"))
    }
    job.estimatedFinish = nil
    switch reason {
    case .pause:
      job.status = .paused
      events.append(event("The job has been paused"))
    case .giveWay:
      job.status = .queued
      events.append(event("The job gives way to others after step \(current?.step ?? 0), and waits for its next turn"))
    case .cancel:
      job.status = .cancelled
      job.finishedAt = Self.now
      events.append(event("The job has been cancelled"))
    case .fail(let failure):
      job.status = .failed
      job.finishedAt = Self.now
      job.failure = failure
      events.append(event("The job failed: \(failure.message)", level: .error))
      logger.warning(
        "fine-tuning failed", metadata: ["job": .string(job.id), "reason": .string(failure.message)])
    // The next process continues the job.
    case .shutDown: break
    }
    current?.job = job
    if reason != .shutDown { recordEnd(events) }
    clearCurrentJob()
  }
}
