import Formats

/// The schemas of replies. ReplySchemas+Answers.swift has those of what the model answers, ReplySchemas+Training.swift those of
/// adapters and jobs.
enum ReplySchemas {
  typealias Schema = JSONSchema
  typealias Pair = (key: String, value: JSONValue)

  /// All of them, by name.
  static let all: [Pair] =
    [
      ("Error", error), ("Document", Schema.object), ("Health", Schema.object([("status", Schema.string)])),
      ("Version", Schema.object([("version", Schema.string)])), ("Deleted", deleted),
      ("Tokens", tokens), ("Prompt", Schema.object([("prompt", Schema.string)])),
      ("TokenizerInfo", tokenizerInfo), ("Model", model), ("Models", list("Model")), ("File", file),
      ("Files", list("File")),
      ("Batch", batch), ("Batches", list("Batch")),
    ] + answers + training

  /// A page of a list.
  static func list(_ element: String, more: [Pair] = []) -> JSONValue {
    Schema.object(
      [
        ("object", Schema.constant("list")), ("data", Schema.list(of: Schema.reference(element))),
        ("has_more", Schema.boolean), ("first_id", Schema.nullable(Schema.string)),
        ("last_id", Schema.nullable(Schema.string)),
      ] + more)
  }

  private static let error = Schema.object([
    (
      "error",
      Schema.object([
        ("message", Schema.string), ("type", Schema.string), ("param", Schema.nullable(Schema.string)),
        ("code", Schema.nullable(Schema.string)),
      ])
    )
  ])

  private static let deleted = Schema.object([
    ("id", Schema.string), ("object", Schema.string), ("deleted", Schema.constant(true)),
  ])

  private static let tokens = Schema.object([
    ("count", Schema.integer), ("max_model_len", Schema.integer), ("tokens", Schema.list(of: Schema.integer)),
    ("token_strs", Schema.nullable(Schema.list(of: Schema.string))),
  ])

  private static let tokenizerInfo: JSONValue = {
    let text = Schema.nullable(Schema.string)
    return Schema.object([("bos_token", text), ("eos_token", text), ("chat_template", text)])
  }()

  private static let model = Schema.object([
    ("id", Schema.string), ("object", Schema.constant("model")), ("created", Schema.integer),
    ("owned_by", Schema.string), ("parent", Schema.nullable(Schema.string)), ("root", Schema.string),
    ("max_model_len", Schema.integer),
  ])

  private static let file = Schema.object([
    ("id", Schema.string), ("object", Schema.constant("file")), ("bytes", Schema.integer),
    ("created_at", Schema.integer), ("filename", Schema.string), ("purpose", Schema.string),
    ("status", Schema.constant("processed")), ("status_details", Schema.any), ("expires_at", Schema.any),
  ])

  private static let batch: JSONValue = {
    let time = Schema.nullable(Schema.integer)
    let problem = Schema.object([
      ("code", Schema.string), ("message", Schema.string), ("param", Schema.nullable(Schema.string)),
      ("line", Schema.nullable(Schema.integer)),
    ])
    let statuses = Batch.Status.allCases.map { JSONValue.string($0.rawValue) }
    return Schema.object([
      ("id", Schema.string), ("object", Schema.constant("batch")), ("endpoint", Schema.string),
      (
        "errors",
        Schema.nullable(
          Schema.object([("object", Schema.constant("list")), ("data", Schema.list(of: problem))]))
      ),
      ("input_file_id", Schema.string), ("completion_window", Schema.string), ("status", ["enum": .array(statuses)]),
      ("output_file_id", Schema.nullable(Schema.string)), ("error_file_id", Schema.nullable(Schema.string)),
      ("created_at", Schema.integer), ("in_progress_at", time), ("expires_at", Schema.integer), ("finalizing_at", time),
      ("completed_at", time), ("failed_at", time), ("expired_at", time), ("cancelling_at", time),
      ("cancelled_at", time),
      (
        "request_counts",
        Schema.object([("total", Schema.integer), ("completed", Schema.integer), ("failed", Schema.integer)])
      ),
      ("metadata", Schema.nullable(Schema.object)),
    ])
  }()
}
