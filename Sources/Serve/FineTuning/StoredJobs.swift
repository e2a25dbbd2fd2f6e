public import Formats
import Foundation
import Model

/// The fine-tuning jobs in a data folder that no server uses, as the API shows them. Nothing trains meanwhile.
public struct StoredJobs: Sendable {
  private let folder: DataFolder
  private let database: MetadataDatabase

  /// - Parameters:
  ///   - folder: locked by this process
  ///   - database: the folder's
  public init(folder: DataFolder, database: MetadataDatabase) {
    self.folder = folder
    self.database = database
  }

  /// All jobs, the newest first.
  /// - Throws: `ModelError` if the database cannot be read
  public func all() throws -> [JSONValue] {
    try database.jobs(after: nil, limit: 1 << 30, metadata: []).elements.map(\.json)
  }

  /// One job.
  /// - Throws: `ModelError` if there is no such job
  public func job(_ id: String) throws -> JSONValue { try stored(id).json }

  /// A job's events, in order.
  /// - Throws: `ModelError` if there is no such job
  public func events(of id: String) throws -> [JSONValue] {
    _ = try stored(id)
    return try database.events(of: id, newestFirst: false, after: nil, limit: 1 << 30).elements
  }

  /// A change that a person makes to a job.
  public enum Change: String, Sendable, CaseIterable {
    /// Stops a job that can be resumed.
    case pause
    /// Lets a paused job go on, when a server uses the folder.
    case resume
    /// Ends a job, and deletes its checkpoints.
    case cancel
  }

  /// Changes a job's state, with the event that a server would record.
  /// - Returns: the job after the change
  /// - Throws: `ModelError` if there is no such job, or if its state does not allow the change
  public func apply(_ change: Change, to id: String) throws -> JSONValue {
    var job = try stored(id)
    let (states, status, participle): ([FineTuningJob.Status], FineTuningJob.Status, String) =
      switch change {
      case .pause: ([.queued, .running], .paused, "paused")
      case .resume: ([.paused], .queued, "resumed")
      case .cancel: ([.validatingFiles, .queued, .running, .paused], .cancelled, "cancelled")
      }
    guard states.contains(job.status) else {
      throw ModelError(id, reason: "has the status '\(job.status.rawValue)' and cannot be \(participle)")
    }
    job.status = status
    job.estimatedFinish = nil
    if status == .cancelled { job.finishedAt = FineTuningService.now }
    let event = FineTuningEvent(createdAt: FineTuningService.now, message: "The job has been \(participle)")
    try database.save(job, events: [event])
    if status.isOver { FineTuningFolder(url: folder.url.appending(path: "jobs/\(id)")).remove() }
    return job.json
  }

  private func stored(_ id: String) throws -> FineTuningJob {
    guard let job = try database.job(id) else {
      throw ModelError(id, reason: "there is no such job; 'graft jobs list' has all")
    }
    return job
  }
}
