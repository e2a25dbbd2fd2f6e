/// What is wrong with a line of training data.
public struct DataProblem: Sendable, Equatable, CustomStringConvertible {
  /// From 1.
  public var line: Int
  /// As OpenAI's data validator names it where it knows the like: `missing_messages_list`, `message_missing_key`,
  /// `message_unrecognized_key`, `unrecognized_role`, `missing_content`, `example_missing_assistant_message`,
  /// `data_type`; beyond these `invalid_json`, `invalid_weight`, `invalid_value`, `wrong_method`, `template_error`.
  public var name: String
  public var detail: String

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
  public var file: String
  /// Those that come first, at most `limit`.
  public private(set) var problems: [DataProblem] = []
  /// How many there are.
  public private(set) var count = 0

  /// Problems that are kept: a file may have millions.
  public static let limit = 1000

  public init(file: String) { self.file = file }

  public mutating func add(_ problem: DataProblem) {
    count += 1
    if problems.count < Self.limit { problems.append(problem) }
  }

  /// How often each name comes, in the order of the names.
  public var byName: [(name: String, count: Int)] {
    Dictionary(grouping: problems, by: \.name).map { (name: $0.key, count: $0.value.count) }
      .sorted { $0.name < $1.name }
  }

  public var description: String {
    let more = count > problems.count ? "\n… and \(count - problems.count) more" : ""
    return "\(file) has \(count) \(count == 1 ? "error" : "errors"):\n"
      + problems.map(\.description).joined(separator: "\n") + more
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
