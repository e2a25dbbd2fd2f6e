import Train

/// Why a fine-tuning job cannot be created or changed.
struct FineTuningError: Error, Equatable, CustomStringConvertible {
  enum Kind: Equatable {
    /// The request cannot be honoured.
    case invalid
    case unknownJob
    case unknownModel
    /// The job would not fit into memory.
    case tooLarge
    case storage
    case stopping
  }

  var kind: Kind
  var message: String
  var param: String?
  var code: String?
  /// What is wrong with the lines of a file.
  var problems: DataProblems?

  init(_ kind: Kind, _ message: String, param: String? = nil, code: String? = nil) {
    self.kind = kind
    self.message = message
    self.param = param
    self.code = code
  }

  var description: String { message }

  static func unknownJob(_ id: String) -> FineTuningError {
    FineTuningError(.unknownJob, "Could not find fine tune: \(id)", param: "fine_tuning_job_id")
  }
}
