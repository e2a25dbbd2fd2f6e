import Formats
import Foundation
import Model
import TestSupport
import Testing
import Train

@testable import Serve

/// A job whose one step has millions of rows leaves the engine to others, and ends when it is told to.
@Suite(.serialized) struct LargeJobTests {
  private static let settings: KeyValuePairs<String, JSONValue> = [
    "batch_size": 4096, "gradient_accumulation_steps": 4096, "max_steps": 1, "lora_r": 2,
  ]

  private func finishes(_ server: JobServer, timeout: Duration?) -> EngineError? {
    var request = GenerationRequest(
      prompt: EngineHarness.prompt(20, seed: 3), maxTokens: 30, sampling: .init(temperature: 0, seed: 0),
      ignoresEndOfText: true)
    request.options.timeout = timeout
    let ended = Flag()
    let failure = Box<EngineError?>(nil)
    _ = server.engine.submit(request) { event in
      switch event {
      case .finished: ended.set()
      case .failed(let error):
        failure.value = error
        ended.set()
      default: break
      }
    }
    #expect(ended.wait())
    return failure.value
  }

  @Test func requestsAndSteeringGoOn() throws {
    let setting = try JobSetting()
    try setting.start()
    let file = try setting.server.upload(JobSetting.rows(2, length: 12, seed: 1))
    let job = try setting.server.create(training: file, Self.settings)
    func awaitRunning() { #expect(eventually { (try? setting.server.job(job.id).status) == .running }) }
    awaitRunning()
    #expect(finishes(try setting.server, timeout: nil) == nil)
    // A deadline that has passed ends a request while the step goes on.
    #expect(finishes(try setting.server, timeout: .zero) != nil)

    #expect(try setting.server.pause(job.id)?.status == .paused)
    try setting.server.resume(job.id)
    awaitRunning()
    // After a restart it is the same.
    try setting.start()
    awaitRunning()
    #expect(finishes(try setting.server, timeout: nil) == nil)
    #expect(try setting.server.cancel(job.id)?.status == .cancelled)
    #expect(try setting.server.job(job.id).trainedTokens ?? 0 == 0)
  }

  /// A file that lost its end is no smaller data set.
  @Test func aFileThatWasCutOffIsNotTrainedOn() throws {
    let setting = try JobSetting()
    try setting.start()
    let server = try setting.server
    let bytes = JobSetting.rows(4, length: 12, seed: 1)
    let file = try server.upload(bytes)
    let handle = try FileHandle(forWritingTo: server.files.location(file))
    try handle.truncate(atOffset: UInt64((bytes.count / 2)))
    try handle.close()
    let error = #expect(throws: FineTuningError.self) {
      try server.create(training: file, ["max_steps": 1, "lora_r": 2])
    }
    #expect(error?.message.contains(file) == true && error?.kind != .invalid)
  }

  /// What says the same as the adapter to go on from is accepted; what contradicts it is refused by its name.
  @Test func settingsBesideAnAdapter() throws {
    let setting = try JobSetting()
    try setting.start()
    let server = try setting.server
    let file = try server.upload(JobSetting.rows(2, length: 12, seed: 1))
    let first = try server.create(
      training: file, ["max_steps": 1, "lora_r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]])
    let name = try #require(try server.awaitEnd(first.id).fineTunedModel)
    func create(_ settings: [(key: String, value: JSONValue)]) throws -> FineTuningJob {
      try server.service.create(
        FineTuningRequest(
          model: "base", initial: .init(reference: AdapterReference(name: name), param: "init_adapter"),
          trainingFile: file, validationFile: nil, suffix: nil, seed: 7, method: .supervised,
          hyperparameters: JSONObject(
            keepingFirst: [("max_steps", 1), ("init_adapter", .string(name))] + settings), metadata: nil))
    }
    let agreeing: [[(key: String, value: JSONValue)]] = [
      [("lora_r", 2)], [("lora_r", 2), ("lora_alpha", 4), ("use_dora", false), ("use_rslora", false)],
      [("target_modules", ["v_proj", "q_proj"])], [("target_modules", ".*\\.(q|v)_proj")],
      [("layers_to_transform", [0])], [("rank_pattern", [:])], [("rank_pattern", ["q_proj": 2])],
    ]
    for settings in agreeing {
      let job = try create(settings)
      #expect(try server.awaitEnd(job.id).status == .succeeded, "\(settings)")
    }
    let contradicting: [(String, JSONValue)] = [
      ("lora_r", 3), ("lora_alpha", 8), ("use_dora", true), ("use_rslora", true), ("target_modules", ["q_proj"]),
      ("target_modules", "all-linear"), ("exclude_modules", ["q_proj"]), ("rank_pattern", ["q_proj": 3]),
      ("alpha_pattern", ["v_proj": 9]),
    ]
    for (field, value) in contradicting {
      let error = #expect(throws: FineTuningError.self, "\(field)") { try create([(field, value)]) }
      #expect(
        error?.kind == .invalid && error?.param?.hasSuffix(field) == true, "\(field): \(String(describing: error))")
    }
  }
}
