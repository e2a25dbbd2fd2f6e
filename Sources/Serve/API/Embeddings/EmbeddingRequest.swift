import Formats
import Model

/// The body of `POST /v1/embeddings`, parsed and checked, with its inputs tokenised.
struct EmbeddingRequest: Sendable {
  let model: ModelFields
  /// At least one, none empty.
  let inputs: [[Int32]]
  /// How many of an embedding's values are answered.
  let dimensions: Int
  /// Whether the values are sent as base64 of little-endian f32, instead of as numbers.
  let isBase64: Bool
  let timeout: Duration?

  static let maximumInputs = 2048
  /// Maximum values of an answer, which is in memory until it is sent.
  static let maximumValues = 4 << 20

  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields, context: ServerContext, prompts: PromptTokenizer) throws(APIError) {
    model = try ModelFields(fields)
    timeout = try fields.timeout()
    let hiddenSize = context.base.config.hiddenSize
    dimensions = try fields.integer("dimensions", in: 1...hiddenSize) ?? hiddenSize
    switch try fields.string("encoding_format") {
    case nil, "float": isBase64 = false
    case "base64": isBase64 = true
    default:
      throw .invalid(
        "'encoding_format' must be 'float' or 'base64'", param: "encoding_format", code: "invalid_value")
    }
    let kept = try fields.promptTokensKept(prompts.contextLength, answer: 0)
    inputs = try CompletionRequest.prompts(
      fields, prompts.keepingLast(kept), field: "input", maximum: Self.maximumInputs)
    if let empty = inputs.firstIndex(where: \.isEmpty) {
      throw .invalid(
        "'input' has no tokens" + (inputs.count > 1 ? " (input \(empty))" : ""), param: "input", code: "invalid_value")
    }
    guard inputs.count * dimensions <= Self.maximumValues else {
      throw .invalid(
        "\(inputs.count) inputs with \(dimensions) values each are more than \(Self.maximumValues) values; send fewer "
          + "inputs at once", param: "input", code: "invalid_value")
    }
  }
}

extension EmbeddingRequest: PreparedRequest {
  var prompts: [[Int32]] { inputs }

  var warnings: [String] { [] }

  func run(
    for target: any AnswerTarget, client: ClientIdentity, query: [(name: String, value: String)],
    context: ServerContext
  ) throws(APIError) {
    let selection = try context.selection(model, query: query)
    let run = EmbeddingRun(self, selection, client: client, target: target, context: context)
    let admission: Admission
    do { admission = try run.admit() } catch { throw error.apiError }
    context.acquireAdapters(selection, for: target, timeout: timeout) { adapters in
      run.start(adapters: adapters, first: admission)
    }
  }
}
