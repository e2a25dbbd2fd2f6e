/// What is wrong with a line of training data.
public struct DataProblem: Sendable, Equatable, CustomStringConvertible {
  /// The line's number, from 1.
  public var line: Int
  /// The kind of problem. Those that OpenAI's data validator knows have its names: `missing_messages_list`,
  /// `message_missing_key`, `message_unrecognized_key`, `unrecognized_role`, `missing_content`,
  /// `example_missing_assistant_message`, `data_type`. The others are `invalid_json`, `invalid_weight`,
  /// `invalid_value`, `wrong_method`, `template_error`, `unsupported_field`.
  public var name: String
  /// What is wrong, in words.
  public var detail: String

  /// - Parameter line: from 1
  public init(line: Int, name: String, detail: String) {
    self.line = line
    self.name = name
    self.detail = detail
  }

  /// "line 3: unrecognized_role: messages[1] has the role 'robot'"
  public var description: String { "line \(line): \(name): \(detail)" }
}

/// Everything that is wrong with a file of training data.
public struct DataProblems: Error, Sendable, Equatable, CustomStringConvertible {
  /// The name that the file is reported by.
  public var file: String
  /// The first problems, at most `limit`.
  public private(set) var problems: [DataProblem] = []
  /// The number of all problems.
  public private(set) var count = 0
  /// The number of problems by name.
  private var counts: [String: Int] = [:]

  /// The maximum number of problems that are listed; a file may have millions.
  public static let limit = 20

  /// No problems yet.
  public init(file: String) { self.file = file }

  /// Counts a problem, and lists it if it is among the first `limit`.
  public mutating func add(_ problem: DataProblem) {
    count += 1
    counts[problem.name, default: 0] += 1
    if problems.count < Self.limit { problems.append(problem) }
  }

  /// The number of problems of each name, in the order of the names.
  public var byName: [(name: String, count: Int)] {
    counts.map { (name: $0.key, count: $0.value) }.sorted { $0.name < $1.name }
  }

  /// The file, how many errors it has, and a line for each that is listed.
  public var description: String {
    let more = count > problems.count ? "\n… and \(count - problems.count) more" : ""
    return "\(file) has \(count) \(count == 1 ? "error" : "errors"):\n"
      + problems.map(\.description).joined(separator: "\n") + more
  }
}

/// A file that is not JSONL at all. The error says what the file is, and how to convert it.
public struct DataFileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The name that the file is reported by.
  public var file: String
  /// What the file is, in words, and how to convert it.
  public var reason: String

  /// "training_file: …"
  public var description: String { "\(file): \(reason)" }
}

/// Rows that would take more memory than the job may use.
public struct DataSizeError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The name that the file is reported by.
  public var file: String
  /// Bytes that all rows may take.
  public var limit: Int

  /// The limit, and that fewer rows would fit.
  public var description: String {
    "\(file): the rows take more than the \(limit >> 20) MiB of memory that there are for a job; use fewer rows"
  }
}

/// One line's problem, before the line's number is known.
struct LineError: Error, Equatable {
  var name: String
  var detail: String

  init(_ name: String, _ detail: String) {
    self.name = name
    self.detail = detail
  }
}

/// All problems of one line.
struct LineErrors: Error, Equatable {
  var errors: [LineError]
}
