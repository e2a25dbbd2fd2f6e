import Formats
import Foundation
import Model
import TestSupport
import Testing

@testable import Serve

/// Jobs that are paused, that give way and that outlive the process end in the bytes and tell the figures of one that
/// nothing disturbed: validation, early stopping and checkpoints included.
@Suite(.serialized) struct JobResumeTests {
  /// Validations are the longer part of the work, so that many stops fall into one.
  private static let settings: KeyValuePairs<String, JSONValue> = [
    "max_steps": 8, "batch_size": 1, "checkpoint_steps": 2, "lora_r": 2, "lora_dropout": .number(0.1),
    "learning_rate": .number(0.05), "scheduler": "constant", "early_stopping_patience": 3,
    "target_modules": ["q_proj", "down_proj"],
  ]

  private struct Outcome: Equatable {
    var status: FineTuningJob.Status
    var told: [String]
    var adapter: String?
    var checkpoints: [Int]
    var metrics: [String]
    var results: [UInt8]
    var tokens: Int?
  }

  private func outcome(_ setting: JobSetting, _ job: FineTuningJob) throws -> Outcome {
    let server = try setting.server
    let ended = try server.awaitEnd(job.id)
    #expect(eventually { (try? server.database.checkpointSteps(of: job.id).count) == 3 })
    let checkpoints = try server.database.checkpoints(of: job.id, after: nil, limit: 100).elements.reversed()
    return Outcome(
      status: ended.status, told: try server.told(job.id), adapter: server.result(ended),
      checkpoints: checkpoints.compactMap { $0.object?["step_number"]?.integer },
      metrics: checkpoints.compactMap { $0.object?["metrics"].map { String(decoding: $0.encoded, as: UTF8.self) } },
      results: try ended.resultFiles.first.map { try Array(Data(contentsOf: server.files.location($0))) } ?? [],
      tokens: ended.trainedTokens)
  }

  private func begin(
    _ setting: JobSetting, _ settings: KeyValuePairs<String, JSONValue> = settings
  ) throws -> FineTuningJob {
    let server = try setting.server
    return try server.create(
      training: try server.upload(JobSetting.rows(3, length: 12, seed: 1)),
      validation: try server.upload(JobSetting.rows(30, length: 40, seed: 2)), settings)
  }

  private func undisturbed(_ setting: JobSetting) throws -> Outcome {
    try setting.start()
    let whole = try outcome(setting, try begin(setting))
    #expect(whole.status == .succeeded && whole.adapter != nil && whole.tokens ?? 0 > 0)
    #expect(whole.told.count { $0.contains("valid_loss") } >= 3)
    // Three checkpoints can be named.
    #expect(whole.checkpoints.count == 3 && whole.metrics.allSatisfy { $0.contains("valid_loss") })
    return whole
  }

  @Test func pausedAnywhere() throws {
    let setting = try JobSetting()
    let whole = try undisturbed(setting)
    for stops in [[2], [1, 2, 3], [3, 6], [4, 5, 8], Array(1..<whole.told.count)] {
      let job = try begin(setting)
      for count in stops {
        try setting.server.awaitEvents(count, of: job.id)
        guard let paused = try setting.server.pause(job.id), paused.status == .paused else { break }
        try setting.server.resume(job.id)
      }
      #expect(try outcome(setting, job) == whole, "paused after \(stops) events")
    }
  }

  @Test func stoppedWithTheProcessAnywhere() throws {
    let setting = try JobSetting()
    let whole = try undisturbed(setting)
    for stops in [[2], [3, 6], Array(1..<whole.told.count)] {
      let job = try begin(setting)
      for count in stops {
        try setting.server.awaitEvents(count, of: job.id)
        try setting.start()
      }
      #expect(try outcome(setting, job) == whole, "stopped after \(stops) events")
    }
  }

  @Test func givingWay() throws {
    let setting = try JobSetting()
    let whole = try undisturbed(setting)
    try setting.start(turn: .milliseconds(1))
    let jobs = [try begin(setting), try begin(setting)]
    for job in jobs { #expect(try outcome(setting, job) == whole) }
    let events = try setting.server.database.events(of: jobs[0].id, newestFirst: false, after: nil, limit: 1000)
    #expect(events.elements.contains { $0.object?["message"]?.string?.contains("gives way") == true })
  }

  /// Whatever else is read and checked, a job that stops is saved at once.
  @Test(arguments: [false, true])
  func savingWaitsForNoValidation(stopsProcess: Bool) throws {
    let setting = try JobSetting()
    try setting.start()
    let job = try begin(setting, ["max_steps": 100_000, "checkpoint_steps": 100_000, "lora_r": 2])
    try setting.server.awaitEvents(3, of: job.id)
    // As a large file that is being checked would.
    let gate = DispatchSemaphore(value: 0)
    try setting.server.service.validation.async { gate.wait() }
    if stopsProcess {
      try setting.server.stop()
    } else {
      #expect(try setting.server.pause(job.id)?.status == .paused)
    }
    let steps = try setting.server.told(job.id).count
    #expect(steps >= 3)
    gate.signal()
    if stopsProcess { try setting.start() } else { try setting.server.resume(job.id) }
    try setting.server.awaitEvents(steps + 2, of: job.id)
    let messages = try setting.server.database.events(of: job.id, newestFirst: false, after: nil, limit: 10_000)
      .elements
      .compactMap { $0.object?["message"]?.string }
    #expect(messages.contains("Fine-tuning job goes on from step \(steps)"))
    #expect(try setting.server.cancel(job.id)?.status == .cancelled)
  }
}
