import Formats

/// What the OpenAPI document says about a route beside its path and its query.
struct APIOperation: Sendable {
  /// The body of a request.
  enum Body: Sendable {
    case none
    /// A JSON object.
    /// - Parameter required: fields that must be there
    case json(FieldCatalog, required: [String])
    /// multipart/form-data with these parts.
    case form(required: [String], optional: [String])
    /// multipart/form-data with the parts of one of these forms, each of them required, or a JSON object.
    case formsOrJSON([[String]], optional: [String], FieldCatalog, requiredFields: [String])
  }

  /// The body of a reply.
  enum Reply: Sendable {
    /// JSON of a schema of the document.
    case json(String)
    /// JSON of one schema or, as a stream of events, of another.
    case stream(String, events: String)
    /// Bytes of one of these media types.
    case bytes([String])
  }

  let summary: String
  var body = Body.none
  let reply: Reply
  /// The maximum of the query's `limit`, where it has one.
  var maximumPage: Int?

  /// Each route's operation, by method and path.
  static let all: [String: APIOperation] = [
    "POST /v1/chat/completions": .init(
      summary: "Answers a chat", body: .json(.chat, required: ["messages"]),
      reply: .stream("ChatCompletion", events: "ChatCompletionChunk")),
    "POST /v1/completions": .init(
      summary: "Continues a prompt", body: .json(.completions, required: ["prompt"]),
      reply: .stream("Completion", events: "Completion")),
    "POST /v1/responses": .init(
      summary: "Answers a chat in the form of OpenAI's Responses API", body: .json(.responses, required: ["input"]),
      reply: .stream("Response", events: "ResponseEvent")),
    "GET /v1/responses/{id}": .init(summary: "Shows a response that is kept", reply: .json("Response")),
    "DELETE /v1/responses/{id}": .init(summary: "Deletes a response", reply: .json("Deleted")),
    "GET /v1/responses/{id}/input_items": .init(
      summary: "Lists the items of a response's request", reply: .json("Items")),
    "POST /v1/embeddings": .init(
      summary: "Turns texts into vectors", body: .json(.embeddings, required: ["input"]), reply: .json("Embeddings")),
    "POST /v1/batches": .init(
      summary: "Creates a batch of an uploaded file's requests",
      body: .json(.batch, required: ["input_file_id", "endpoint", "completion_window"]), reply: .json("Batch")),
    "GET /v1/batches": .init(summary: "Lists the batches", reply: .json("Batches")),
    "GET /v1/batches/{id}": .init(summary: "Shows a batch", reply: .json("Batch")),
    "POST /v1/batches/{id}/cancel": .init(summary: "Ends a batch with the results that it has", reply: .json("Batch")),
    "GET /v1/models": .init(
      summary: "Lists the base and the adapters", reply: .json("Models"), maximumPage: NameList.maximumLimit),
    "GET /v1/models/{id}": .init(summary: "Shows the base or an adapter", reply: .json("Model")),
    "DELETE /v1/models/{id}": .init(summary: "Deletes an adapter with all its versions", reply: .json("Deleted")),
    "POST /tokenize": .init(
      summary: "Turns a prompt or a chat into tokens", body: .json(.tokenize, required: []), reply: .json("Tokens")),
    "POST /detokenize": .init(
      summary: "Turns tokens into text", body: .json(.detokenize, required: ["tokens"]), reply: .json("Prompt")),
    "GET /tokenizer_info": .init(
      summary: "The tokenizer's special tokens and chat template", reply: .json("TokenizerInfo")),
    "POST /v1/load_lora_adapter": .init(
      summary: "Loads an adapter from the server's folder",
      body: .json(.loadAdapter, required: ["lora_name", "lora_path"]),
      reply: .json("LoadedAdapter")),
    "POST /v1/unload_lora_adapter": .init(
      summary: "Removes an adapter's name until it is loaded again",
      body: .json(.unloadAdapter, required: ["lora_name"]), reply: .json("UnloadedAdapter")),
    "GET /v1/adapters": .init(
      summary: "Lists the adapters", reply: .json("Adapters"), maximumPage: NameList.maximumLimit),
    "GET /v1/adapters/{name}": .init(summary: "Shows an adapter", reply: .json("Adapter")),
    "GET /v1/adapters/{name}/content": .init(
      summary: "Downloads an adapter: a tar archive of its folder, or the file of a format that has only one",
      reply: .bytes(Set(AdapterForm.allCases.map(\.mediaType)).sorted())),
    "POST /v1/adapters/{name}": .init(
      summary: "Loads a stored version again, and pins or unpins the adapter",
      body: .json(.reloadAdapter, required: []), reply: .json("LoadedAdapter")),
    "PUT /v1/adapters/{name}": .init(
      summary: "Uploads an adapter; or, as JSON, gives a weighted set of adapters a name",
      body: .formsOrJSON(
        [
          ["adapter_config.json", "adapter_model.safetensors"], ["adapter_config.json", "adapters.safetensors"],
          ["adapter.gguf"],
        ],
        optional: ["pinned"], .combineAdapters, requiredFields: ["adapters"]),
      reply: .json("LoadedAdapter")),
    "DELETE /v1/adapters/{name}": .init(
      summary: "Deletes an adapter, or one version of it", reply: .json("DeletedAdapter")),
    "POST /v1/files": .init(
      summary: "Uploads a file", body: .form(required: ["file", "purpose"], optional: []), reply: .json("File")),
    "GET /v1/files": .init(summary: "Lists the files", reply: .json("Files"), maximumPage: FileRoutes.maximumPage),
    "GET /v1/files/{id}": .init(summary: "Shows a file's record", reply: .json("File")),
    "GET /v1/files/{id}/content": .init(summary: "Downloads a file", reply: .bytes(["application/octet-stream"])),
    "DELETE /v1/files/{id}": .init(summary: "Deletes a file", reply: .json("Deleted")),
    "POST /v1/fine_tuning/jobs": .init(
      summary: "Creates a fine-tuning job", body: .json(.fineTuningJob, required: ["model", "training_file"]),
      reply: .json("Job")),
    "POST /v1/fine_tuning/preview": .init(
      summary: "Checks a job's data and settings, and says what they need, without creating a job",
      body: .json(.fineTuningJob, required: ["model", "training_file"]), reply: .json("JobPreview")),
    "GET /v1/fine_tuning/jobs": .init(
      summary: "Lists the jobs", reply: .json("Jobs"), maximumPage: FineTuningRoutes.maximumPage),
    "GET /v1/fine_tuning/jobs/{id}": .init(summary: "Shows a job", reply: .json("Job")),
    "POST /v1/fine_tuning/jobs/{id}/cancel": .init(summary: "Ends a job", reply: .json("Job")),
    "POST /v1/fine_tuning/jobs/{id}/pause": .init(summary: "Stops a job until it is resumed", reply: .json("Job")),
    "POST /v1/fine_tuning/jobs/{id}/resume": .init(summary: "Continues a paused job", reply: .json("Job")),
    "GET /v1/fine_tuning/jobs/{id}/events": .init(
      summary: "Lists a job's events, or streams them", reply: .stream("JobEvents", events: "JobEvent"),
      maximumPage: FineTuningRoutes.maximumEvents),
    "GET /v1/fine_tuning/jobs/{id}/checkpoints": .init(
      summary: "Lists a job's checkpoints", reply: .json("JobCheckpoints"), maximumPage: FineTuningRoutes.maximumPage),
    "GET /health": .init(summary: "Whether the server works", reply: .json("Health")),
    "GET /ready": .init(summary: "Whether the server takes requests", reply: .json("Health")),
    "GET /version": .init(summary: "The server's version", reply: .json("Version")),
    "GET /metrics": .init(summary: "Prometheus metrics", reply: .bytes(["text/plain"])),
    "GET /openapi.json": .init(summary: "This document", reply: .json("Document")),
  ]
}
