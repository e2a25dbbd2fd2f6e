import Formats

/// A batch of requests, as it is stored and as clients see it.
struct Batch: Sendable, Equatable {
  enum Status: String, Sendable, CaseIterable {
    case validating, failed, finalizing, completed, expired, cancelling, cancelled
    case inProgress = "in_progress"

    /// Whether nothing changes any more.
    var isOver: Bool { [.failed, .completed, .expired, .cancelled].contains(self) }
  }

  /// What is wrong with a line of the input file, or with the whole file.
  struct Problem: Error, Equatable {
    var code: String
    var message: String
    var param: String?
    /// From 1; `nil` for the whole file.
    var line: Int?

    /// The input file is gone or cannot be read.
    static let noInput = Problem(code: "file_unreadable", message: "The input file cannot be read")
  }

  /// How many requests a batch has, and how many of them have ended.
  struct Counts: Sendable, Equatable {
    var total = 0
    var completed = 0
    var failed = 0
  }

  let id: String
  let endpoint: GenerationEndpoint
  let inputFile: String
  /// Seconds since 1970.
  let createdAt: Int
  var metadata: JSONObject?
  private(set) var status = Status.validating
  /// When the batch got each status after the first, in seconds since 1970.
  private var times: [Status: Int] = [:]
  /// The ids of the files with the results. They are chosen before the files are written.
  var outputFile: String?
  var errorFile: String?
  var problems: [Problem] = []
  var counts = Counts()

  static let prefix = "batch_"
  static let window = "24h"
  /// When the batch ends, done or not.
  var expiresAt: Int { createdAt + 86_400 }

  init(endpoint: GenerationEndpoint, inputFile: String, createdAt: Int, metadata: JSONObject?) {
    id = RandomName.make(Self.prefix, length: 24)
    self.endpoint = endpoint
    self.inputFile = inputFile
    self.createdAt = createdAt
    self.metadata = metadata
  }

  mutating func enter(_ status: Status, at time: Int) {
    self.status = status
    times[status] = time
  }

  // MARK: JSON

  /// The batch as OpenAI's API shows it: without the result files until they are complete.
  var json: JSONValue { json(showsFiles: status.isOver) }

  /// The batch as the database has it.
  var record: JSONValue { json(showsFiles: true) }

  private func json(showsFiles: Bool) -> JSONValue {
    func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
    func number(_ value: Int?) -> JSONValue { value.map { .integer($0) } ?? .null }
    let errors: JSONValue =
      problems.isEmpty
      ? .null
      : [
        "object": "list",
        "data": .array(
          problems.map { problem in
            [
              "code": .string(problem.code), "message": .string(problem.message), "param": text(problem.param),
              "line": number(problem.line),
            ]
          }),
      ]
    return [
      "id": .string(id), "object": "batch", "endpoint": .string(endpoint.rawValue), "errors": errors,
      "input_file_id": .string(inputFile), "completion_window": .string(Self.window),
      "status": .string(status.rawValue), "output_file_id": showsFiles ? text(outputFile) : .null,
      "error_file_id": showsFiles ? text(errorFile) : .null, "created_at": .integer(createdAt),
      "in_progress_at": number(times[.inProgress]), "expires_at": .integer(expiresAt),
      "finalizing_at": number(times[.finalizing]), "completed_at": number(times[.completed]),
      "failed_at": number(times[.failed]), "expired_at": number(times[.expired]),
      "cancelling_at": number(times[.cancelling]), "cancelled_at": number(times[.cancelled]),
      "request_counts": [
        "total": .integer(counts.total), "completed": .integer(counts.completed), "failed": .integer(counts.failed),
      ],
      "metadata": metadata.map { .object($0) } ?? .null,
    ]
  }

  /// `nil` if the value is not a batch's record.
  init?(record: JSONValue) {
    guard let object = record.object, let id = object["id"]?.string,
      let endpoint = object["endpoint"]?.string.flatMap(GenerationEndpoint.init),
      let inputFile = object["input_file_id"]?.string, let createdAt = object["created_at"]?.integer,
      let status = object["status"]?.string.flatMap(Status.init)
    else { return nil }
    (self.id, self.endpoint, self.inputFile, self.createdAt) = (id, endpoint, inputFile, createdAt)
    self.status = status
    for status in Status.allCases { times[status] = object["\(status.rawValue)_at"]?.integer }
    outputFile = object["output_file_id"]?.string
    errorFile = object["error_file_id"]?.string
    metadata = object["metadata"]?.object
    for case .object(let problem) in object["errors"]?.object?["data"]?.array ?? [] {
      problems.append(
        Problem(
          code: problem["code"]?.string ?? "", message: problem["message"]?.string ?? "",
          param: problem["param"]?.string, line: problem["line"]?.integer))
    }
    let counts = object["request_counts"]?.object
    self.counts = Counts(
      total: counts?["total"]?.integer ?? 0, completed: counts?["completed"]?.integer ?? 0,
      failed: counts?["failed"]?.integer ?? 0)
  }
}
