import Formats

/// Adapters and fine-tuning jobs.
extension ReplySchemas {
  static let training: [Pair] = [
    ("Adapter", adapter), ("Adapters", list("Adapter", more: [("memory", memory)])), ("LoadedAdapter", loadedAdapter),
    ("UnloadedAdapter", Schema.object([("name", Schema.string), ("status", Schema.constant("unloaded"))])),
    ("DeletedAdapter", deletedAdapter), ("Job", job), ("JobPreview", jobPreview), ("Jobs", list("Job")),
    ("JobEvent", jobEvent),
    ("JobEvents", list("JobEvent")), ("JobCheckpoint", jobCheckpoint), ("JobCheckpoints", list("JobCheckpoint")),
  ]

  // MARK: adapters

  private static let state: [Pair] = [
    ("state", Schema.oneOf("loaded", "on_disk", "unloaded", "incompatible", "refused")),
    ("reason", Schema.nullable(Schema.string)),
  ]

  /// What is known of contents that can be read.
  private static let figures: [Pair] = [
    ("rank", Schema.integer), ("targets", Schema.list(of: Schema.string)), ("bytes", Schema.integer),
    ("file_bytes", Schema.integer), ("content_hash", Schema.string), ("base", Schema.string),
    ("created", Schema.integer), ("source", Schema.nullable(Schema.string)),
  ]

  private static let adapter = Schema.object(
    [
      ("name", Schema.string), ("object", Schema.constant("adapter")), ("version", Schema.nullable(Schema.integer)),
      ("pinned", Schema.boolean),
      (
        "versions", Schema.list(of: Schema.object([("version", Schema.integer)] + state, optional: figures))
      ),
    ] + state, optional: [("warning", Schema.string)] + figures)

  private static let memory = Schema.object([
    ("budget", Schema.integer), ("bytes", Schema.integer), ("adapters", Schema.integer),
  ])

  private static let loadedAdapter = Schema.object(
    [("name", Schema.string)],
    optional: [
      ("version", Schema.integer), ("rank", Schema.integer), ("targets", Schema.list(of: Schema.string)),
      ("bytes", Schema.integer), ("pinned", Schema.boolean), ("content_hash", Schema.string),
    ])

  private static let deletedAdapter = Schema.object([
    ("name", Schema.string), ("object", Schema.constant("adapter")), ("version", Schema.nullable(Schema.integer)),
    ("deleted", Schema.constant(true)),
  ])

  // MARK: jobs

  private static let job: JSONValue = {
    let time = Schema.nullable(Schema.integer)
    let text = Schema.nullable(Schema.string)
    let failure = Schema.object([("code", Schema.string), ("message", Schema.string), ("param", text)])
    return Schema.object([
      ("id", Schema.string), ("object", Schema.constant(.string(FineTuningJob.objectName))),
      ("created_at", Schema.integer), ("finished_at", time), ("estimated_finish", time), ("status", Schema.string),
      ("model", Schema.string), ("fine_tuned_model", text), ("organization_id", Schema.string),
      ("training_file", Schema.string), ("validation_file", text), ("result_files", Schema.list(of: Schema.string)),
      ("trained_tokens", Schema.nullable(Schema.integer)), ("seed", Schema.integer),
      ("integrations", Schema.list(of: Schema.any)), ("metadata", Schema.nullable(Schema.map(of: Schema.string))),
      ("sample_prompts", Schema.list(of: Schema.string)), ("hyperparameters", Schema.object), ("method", Schema.object),
      ("error", Schema.nullable(failure)),
    ])
  }()

  private static let jobPreview: JSONValue = {
    let problem = Schema.object([
      ("line", Schema.nullable(Schema.integer)), ("code", Schema.string), ("message", Schema.string),
    ])
    let run = Schema.object([("text", Schema.string), ("learnt", Schema.boolean)])
    let row = Schema.object([
      ("kind", Schema.oneOf("row", "chosen", "rejected")), ("tokens", Schema.integer),
      ("learnt_tokens", Schema.integer), ("runs", Schema.list(of: run)),
    ])
    let memory = Schema.object([
      ("bytes", Schema.integer), ("adapter", Schema.integer), ("activations", Schema.integer),
      ("data", Schema.integer), ("available", Schema.nullable(Schema.integer)),
    ])
    return Schema.object(
      [
        ("object", Schema.constant("fine_tuning.preview")), ("valid", Schema.boolean),
        ("param", Schema.nullable(Schema.string)),
        ("problem_count", Schema.integer), ("problems", Schema.list(of: problem)), ("hyperparameters", Schema.object),
      ],
      optional: [
        ("formats", Schema.list(of: Schema.string)), ("examples", Schema.integer),
        ("validation_examples", Schema.integer), ("cut_rows", Schema.integer), ("lossless_rows", Schema.integer),
        ("epoch_tokens", Schema.integer), ("epoch_learnt_tokens", Schema.integer), ("steps", Schema.integer),
        ("total_tokens", Schema.integer), ("longest_example", Schema.integer), ("memory", memory),
        ("rows", Schema.list(of: row)),
      ])
  }()

  private static let jobEvent = Schema.object([
    ("id", Schema.string), ("object", Schema.constant("fine_tuning.job.event")), ("created_at", Schema.integer),
    ("level", Schema.oneOf("info", "warn", "error")), ("message", Schema.string),
    ("type", Schema.oneOf("message", "metrics")), ("data", Schema.object),
  ])

  private static let jobCheckpoint: JSONValue = {
    let sample = Schema.object([("prompt", Schema.string), ("base", Schema.string), ("answer", Schema.string)])
    return Schema.object(
      [
        ("id", Schema.string), ("object", Schema.constant("fine_tuning.job.checkpoint")),
        ("created_at", Schema.integer), ("fine_tuned_model_checkpoint", Schema.string),
        ("fine_tuning_job_id", Schema.string), ("metrics", Schema.object), ("step_number", Schema.integer),
      ], optional: [("samples", Schema.list(of: sample))])
  }()
}
