import Formats
import Foundation
import Model
import Train

/// A fine-tuning job, as it is stored and as clients see it.
struct FineTuningJob: Sendable, Equatable {
  enum Status: String, Sendable {
    case validatingFiles = "validating_files"
    case queued, running, paused, succeeded, failed, cancelled

    var isOver: Bool { self == .succeeded || self == .failed || self == .cancelled }
  }

  struct Failure: Sendable, Equatable {
    var code: String
    var message: String
    var param: String?
  }

  var id: String
  /// The name of the resulting adapter: `ft:BASE:ORG:SUFFIX:ID`.
  var resultName: String
  var status = Status.queued
  /// Seconds since 1970.
  var createdAt: Int
  var finishedAt: Int?
  var estimatedFinish: Int?
  /// The model's name in the request.
  var model: String
  /// The base's fingerprint. The job runs only with this base.
  var base: String
  var method: Hyperparameters.Method
  var seed: Int
  /// The hyperparameters of the request, unchanged.
  var requested: JSONObject
  var trainingFile: String
  var validationFile: String?
  var trainedTokens: Int?
  var fineTunedModel: String?
  var failure: Failure?
  var resultFiles: [String] = []
  var metadata: JSONObject?
  /// What each checkpoint is asked, beside the base.
  var samplePrompts: [String] = []
  /// The number of optimiser steps, once the data was read.
  var totalSteps: Int?
  /// Seconds of training, by which jobs take turns. A new job does not start at 0; see `FineTuningTurns.start`.
  var usedSeconds = 0.0
  /// Rows that were cut to the length limit.
  var cutRows = 0
  var losslessRows = 0

  func hyperparameters() throws(HyperparameterError) -> Hyperparameters {
    try Hyperparameters(json: requested, method: method, seed: seed)
  }

  static let objectName = "fine_tuning.job"

  /// The job as OpenAI's API shows it.
  var json: JSONValue {
    let settings = (try? hyperparameters()) ?? Hyperparameters()
    let multiplier = settings.learningRate / Hyperparameters.defaultLearningRate
    let all = settings.json.pairs + [(key: "learning_rate_multiplier", value: .number(multiplier))]
    let methodPairs: [(key: String, value: JSONValue)] = [
      (key: "type", value: .string(method.rawValue)),
      (key: method.rawValue, value: ["hyperparameters": .object(JSONObject(keepingFirst: all))]),
    ]
    let files = JSONValue.array(resultFiles.map { .string($0) })
    return [
      "id": .string(id), "object": .string(Self.objectName), "created_at": .integer(createdAt),
      "finished_at": Self.optional(finishedAt), "estimated_finish": Self.optional(estimatedFinish),
      "status": .string(status.rawValue), "model": .string(model), "fine_tuned_model": Self.optional(fineTunedModel),
      "organization_id": .string(FineTuningNames.organization), "training_file": .string(trainingFile),
      "validation_file": Self.optional(validationFile), "result_files": files,
      "trained_tokens": Self.optional(trainedTokens), "seed": .integer(seed), "integrations": [],
      "metadata": metadataJSON, "sample_prompts": .array(samplePrompts.map { .string($0) }),
      "hyperparameters": [
        "n_epochs": .integer(settings.nEpochs), "batch_size": .integer(settings.batchSize),
        "learning_rate_multiplier": .number(multiplier),
      ],
      "method": .object(JSONObject(keepingFirst: methodPairs)),
      "error": failureJSON,
    ]
  }

  private var metadataJSON: JSONValue { metadata.map { .object($0) } ?? .null }

  private var failureJSON: JSONValue {
    guard let failure else { return .null }
    return [
      "code": .string(failure.code), "message": .string(failure.message), "param": Self.optional(failure.param),
    ]
  }

  // MARK: on disk

  var record: JSONValue {
    [
      "id": .string(id), "resultName": .string(resultName), "status": .string(status.rawValue),
      "createdAt": .integer(createdAt), "finishedAt": Self.optional(finishedAt),
      "estimatedFinish": Self.optional(estimatedFinish), "model": .string(model), "base": .string(base),
      "method": .string(method.rawValue), "seed": .integer(seed), "requested": .object(requested),
      "trainingFile": .string(trainingFile), "validationFile": Self.optional(validationFile),
      "trainedTokens": Self.optional(trainedTokens), "fineTunedModel": Self.optional(fineTunedModel),
      "failure": failureJSON,
      "resultFiles": .array(resultFiles.map { .string($0) }), "metadata": metadataJSON,
      "totalSteps": Self.optional(totalSteps), "usedSeconds": .number(usedSeconds), "cutRows": .integer(cutRows),
      "losslessRows": .integer(losslessRows), "samplePrompts": .array(samplePrompts.map { .string($0) }),
    ]
  }

  /// `nil` if the value is not a job's record.
  init?(record: JSONValue) {
    guard let object = record.object, let id = object["id"]?.string, let resultName = object["resultName"]?.string,
      let status = object["status"]?.string.flatMap(Status.init), let createdAt = object["createdAt"]?.integer,
      let model = object["model"]?.string, let base = object["base"]?.string,
      let method = object["method"]?.string.flatMap(Hyperparameters.Method.init),
      let seed = object["seed"]?.integer, let requested = object["requested"]?.object,
      let trainingFile = object["trainingFile"]?.string
    else { return nil }
    self.init(
      id: id, resultName: resultName, status: status, createdAt: createdAt, model: model, base: base, method: method,
      seed: seed, requested: requested, trainingFile: trainingFile)
    finishedAt = object["finishedAt"]?.integer
    estimatedFinish = object["estimatedFinish"]?.integer
    validationFile = object["validationFile"]?.string
    trainedTokens = object["trainedTokens"]?.integer
    fineTunedModel = object["fineTunedModel"]?.string
    if let failure = object["failure"]?.object {
      self.failure = Failure(
        code: failure["code"]?.string ?? "", message: failure["message"]?.string ?? "",
        param: failure["param"]?.string)
    }
    resultFiles = object["resultFiles"]?.array?.compactMap(\.string) ?? []
    metadata = object["metadata"]?.object
    totalSteps = object["totalSteps"]?.integer
    usedSeconds = object["usedSeconds"]?.double ?? 0
    cutRows = object["cutRows"]?.integer ?? 0
    losslessRows = object["losslessRows"]?.integer ?? 0
    samplePrompts = object["samplePrompts"]?.array?.compactMap(\.string) ?? []
  }

  init(
    id: String, resultName: String, status: Status = .queued, createdAt: Int, model: String, base: String,
    method: Hyperparameters.Method, seed: Int, requested: JSONObject, trainingFile: String,
    validationFile: String? = nil, metadata: JSONObject? = nil, samplePrompts: [String] = []
  ) {
    self.id = id
    self.resultName = resultName
    self.status = status
    self.createdAt = createdAt
    self.model = model
    self.base = base
    self.method = method
    self.seed = seed
    self.requested = requested
    self.trainingFile = trainingFile
    self.validationFile = validationFile
    self.metadata = metadata
    self.samplePrompts = samplePrompts
  }

  private static func optional(_ value: Int?) -> JSONValue { value.map { .integer($0) } ?? .null }
  private static func optional(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
}

/// The names of the adapters that training makes.
enum FineTuningNames {
  static let organization = "graft"
  /// The beginning of all these names.
  static let prefix = "ft:"

  /// `ft:BASE:ORG:SUFFIX:ID`. Each part is changed so that it is allowed in an adapter's name and is not a number.
  static func result(base: String, suffix: String?, id: String) -> String {
    "\(prefix)\(part(base, limit: 100)):\(organization):\(part(suffix ?? "", limit: 64)):\(id)"
  }

  static func checkpoint(_ result: String, step: Int) -> String { "\(result)\(checkpointPart)\(step)" }

  private static let checkpointPart = ":ckpt-step-"

  /// Whether a name is one that `checkpoint` makes.
  static func isCheckpoint(_ name: String) -> Bool {
    guard name.hasPrefix(prefix), let last = name.lastIndex(of: ":"), name[last...].hasPrefix(checkpointPart) else {
      return false
    }
    return Int(name[last...].dropFirst(checkpointPart.count)) != nil
  }

  private static func part(_ text: String, limit: Int) -> String {
    let characters = text.unicodeScalars.prefix(limit).map { scalar -> Character in
      let isPlain = scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar))
      return isPlain || "._-/".unicodeScalars.contains(scalar) ? Character(scalar) : "-"
    }
    var name = String(characters)
    // Slashes are kept if the parts between them make a valid name.
    if AdapterName.problem("x/\(name)/x") != nil { name = String(name.map { $0 == "/" ? "-" : $0 }) }
    return Double(name) == nil ? name : "n" + name
  }
}

/// An event of a job.
struct FineTuningEvent: Sendable, Equatable {
  enum Level: String, Sendable { case info, warn, error }

  var id = RandomName.make("ftevent-", length: 24)
  var createdAt: Int
  var level = Level.info
  var message: String
  /// The optimiser step that the event belongs to, if it is reported again when the step is repeated.
  var step: Int?
  /// The figures of a step; `nil` for an event that is only a message.
  var metrics: JSONValue?
  var data: JSONValue?

  /// The event as OpenAI's API shows it.
  var record: JSONValue {
    [
      "id": .string(id), "object": "fine_tuning.job.event", "created_at": .integer(createdAt),
      "level": .string(level.rawValue), "message": .string(message), "type": metrics == nil ? "message" : "metrics",
      "data": metrics ?? data ?? [:],
    ]
  }
}

/// A checkpoint that requests can name.
struct FineTuningCheckpoint: Sendable, Equatable {
  var id = RandomName.make("ftckpt_", length: 24)
  var job: String
  var step: Int
  var createdAt: Int
  var model: String
  var metrics: JSONValue

  /// The checkpoint as OpenAI's API shows it. If the job has prompts for samples, these are added when they are made.
  var record: JSONValue {
    [
      "id": .string(id), "object": "fine_tuning.job.checkpoint", "created_at": .integer(createdAt),
      "fine_tuned_model_checkpoint": .string(model), "fine_tuning_job_id": .string(job), "metrics": metrics,
      "step_number": .integer(step),
    ]
  }

  /// `nil` if the value is not a checkpoint's record.
  init?(record: JSONValue) {
    guard let object = record.object, let id = object["id"]?.string, let job = object["fine_tuning_job_id"]?.string,
      let step = object["step_number"]?.integer, let createdAt = object["created_at"]?.integer,
      let model = object["fine_tuned_model_checkpoint"]?.string
    else { return nil }
    self.init(job: job, step: step, createdAt: createdAt, model: model, metrics: object["metrics"] ?? [:])
    self.id = id
  }

  init(job: String, step: Int, createdAt: Int, model: String, metrics: JSONValue) {
    self.job = job
    self.step = step
    self.createdAt = createdAt
    self.model = model
    self.metrics = metrics
  }
}
