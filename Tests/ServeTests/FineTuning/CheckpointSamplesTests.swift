import Formats
import Foundation
import GRDB
import Model
import TestSupport
import Testing
import Tokenization

@testable import Serve

/// What checkpoints answer to a job's prompts is what requests get, and is kept.
@Suite(.serialized) struct CheckpointSamplesTests {
  private static let prompts = ["the bean", "and then"]

  private func finished(_ setting: JobSetting, prompts: [String] = prompts) throws -> FineTuningJob {
    let server = try setting.server
    let job = try server.create(
      training: try server.upload(JobSetting.rows(3, length: 12, seed: 1)), samplePrompts: prompts,
      [
        "max_steps": 4, "batch_size": 1, "checkpoint_steps": 2, "lora_r": 2, "learning_rate": .number(0.05),
        "scheduler": "constant",
      ])
    let ended = try server.awaitEnd(job.id)
    #expect(ended.status == .succeeded)
    return ended
  }

  private func checkpoints(_ job: FineTuningJob, _ server: JobServer) throws -> [JSONObject] {
    try server.database.checkpoints(of: job.id, after: nil, limit: 100).elements.compactMap(\.object)
  }

  private func awaitSamples(of job: FineTuningJob, _ server: JobServer) throws -> [JSONObject] {
    #expect(
      eventually {
        let found = (try? checkpoints(job, server)) ?? []
        return found.count == 2 && found.allSatisfy { $0["samples"] != nil }
      })
    return try checkpoints(job, server)
  }

  @Test func theyAreTheAnswersOfRequests() throws {
    let setting = try JobSetting()
    try setting.start()
    let server = try setting.server
    let job = try finished(setting)
    let found = try awaitSamples(of: job, server)
    #expect(found.compactMap { $0["step_number"]?.integer } == [4, 2])
    var answers: Set<String> = []
    for checkpoint in found {
      let name = try #require(checkpoint["fine_tuned_model_checkpoint"]?.string)
      let adapter = try server.adapters.acquireWaiting([AdapterReference(name: name, version: nil)])[0]
      let expected: [JSONValue] = try Self.prompts.map { prompt in
        [
          "prompt": .string(prompt), "base": .string(try answer(prompt, .none, setting)),
          "answer": .string(try answer(prompt, AdapterSet([(adapter, 1)]), setting)),
        ]
      }
      #expect(checkpoint["samples"] == .array(expected))
      answers.formUnion(expected.compactMap { $0.object?["answer"]?.string })
    }
    // The checkpoints differ, so a mistaken adapter would be seen.
    #expect(answers.count > Self.prompts.count)
    // The events have them too, which stay when a checkpoint is dropped.
    let events = try server.database.events(of: job.id, newestFirst: true, after: nil, limit: 100).elements
    let told = events.compactMap { $0.object?["data"]?.object }.filter { $0["samples"] != nil }
    #expect(Set(told.compactMap { $0["step"]?.integer }) == [2, 4])
    for event in told {
      #expect(found.contains { $0["samples"] == event["samples"] && $0["step_number"] == event["step"] })
    }
  }

  private func answer(_ prompt: String, _ adapters: AdapterSet, _ setting: JobSetting) throws -> String {
    let tokens = try setting.model.tokenizer().encode(prompt, parsingSpecialTokens: true)
    let options = GenerationOptions(maxTokens: 48, sampling: SamplingParameters(temperature: 0, seed: 0))
    return try setting.server.engine.answer(
      to: GenerationRequest(prompt: tokens, adapters: adapters, options: options))
  }

  @Test func theNextProcessMakesThoseThatAreMissing() throws {
    let setting = try JobSetting()
    try setting.start()
    let job = try finished(setting)
    let whole = try awaitSamples(of: job, setting.server)
    try setting.server.database.write { db in
      try db.execute(sql: "UPDATE fineTuningCheckpoint SET record = json_remove(record, '$.samples') WHERE step = 4")
    }
    #expect(try checkpoints(job, setting.server)[0]["samples"] == nil)
    try setting.start()
    #expect(try awaitSamples(of: job, setting.server) == whole)
  }

  @Test func aPromptThatIsTooLongIsReported() throws {
    let setting = try JobSetting()
    try setting.start()
    let server = try setting.server
    let job = try finished(setting, prompts: [String(repeating: "xyz ", count: 400)])
    #expect(try awaitSamples(of: job, server).allSatisfy { $0["samples"] == [] })
    let warnings = try server.database.events(of: job.id, newestFirst: true, after: nil, limit: 100).elements
      .compactMap { $0.object?["message"]?.string }.filter { $0.contains("has no samples") }
    #expect(warnings.count == 2 && warnings.allSatisfy { $0.contains("positions") })
  }

  @Test func aJobWithoutPromptsHasNone() throws {
    let setting = try JobSetting()
    try setting.start()
    let job = try finished(setting, prompts: [])
    // The queue that would make them has nothing to do.
    try setting.server.service.sampling.sync {}
    #expect(eventually { (try? checkpoints(job, setting.server).count) == 2 })
    #expect(try checkpoints(job, setting.server).allSatisfy { $0["samples"] == nil })
  }
}
