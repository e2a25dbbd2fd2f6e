import Formats

/// Reads the fields that constrain an answer's text: OpenAI's `response_format`, vLLM's `guided_…` and
/// `structured_outputs`, llama.cpp's `grammar` and `json_schema`.
struct ConstraintFields {
  /// A constraint and the field that gives it.
  typealias Constraint = (param: String, value: TextConstraint)

  /// `nil` where the text is free.
  private(set) var constraint: Constraint?

  private static let maximumChoices = 10_000

  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields) throws(APIError) {
    try readFormat(fields)
    if let schema = fields["guided_json"] { try set("guided_json", try Self.schema(schema, "guided_json")) }
    if let pattern = try fields.string("guided_regex") { try set("guided_regex", .regex(pattern)) }
    if let choices = fields["guided_choice"] { try set("guided_choice", try Self.choice(choices, "guided_choice")) }
    if let grammar = try fields.string("guided_grammar") { try set("guided_grammar", .grammar(grammar)) }
    if let outputs = try fields.object("structured_outputs") { try readOutputs(outputs) }
    if let grammar = try fields.string("grammar"), !grammar.isEmpty { try set("grammar", .grammar(grammar)) }
    if let schema = fields["json_schema"] { try set("json_schema", try Self.schema(schema, "json_schema")) }
  }

  private mutating func set(_ param: String, _ value: TextConstraint) throws(APIError) {
    if let constraint {
      throw .invalid(
        "'\(constraint.param)' and '\(param)' both constrain the answer; give one of them", param: param,
        code: "invalid_value")
    }
    constraint = (param, value)
  }

  private mutating func readFormat(_ fields: RequestFields) throws(APIError) {
    guard let format = try fields.object("response_format") else { return }
    let type = try format.string("type")
    // A schema beside a type that does not use it is refused: if it were ignored, the client would get an answer that may not fit it.
    for (name, reader) in [("schema", "json_object"), ("json_schema", "json_schema")] where format[name] != nil {
      if let type, type != reader { throw format.mismatch(name, type: type) }
    }
    switch type {
    case "text": break
    case "json_object":
      // llama.cpp takes a schema here.
      if let schema = format["schema"] {
        try set("response_format.schema", try Self.schema(schema, "response_format.schema"))
      } else {
        try set("response_format", .jsonObject)
      }
    case "json_schema":
      let path = "response_format.json_schema"
      let given = try format.required("json_schema")
      guard let schema = given["schema"] else { throw given.missing("schema") }
      _ = try given.bool("strict")
      for name in ["name", "description"] { _ = try given.string(name) }
      try set("\(path).schema", try Self.schema(schema, "\(path).schema"))
    case let type:
      throw .invalid(
        "'response_format.type' must be 'text', 'json_object' or 'json_schema'"
          + (type.map { ", not '\($0.excerpt(40))'" } ?? ""), param: "response_format.type", code: "invalid_value")
    }
  }

  /// vLLM's newer form, one object for all kinds.
  private mutating func readOutputs(_ outputs: RequestFields) throws(APIError) {
    let path = "structured_outputs"
    for name in outputs.names where outputs[name] != nil {
      let param = "\(path).\(name)"
      switch name {
      case "json": try set(param, try Self.schema(outputs[name] ?? .null, param))
      case "json_object": if try outputs.bool(name) == true { try set(param, .jsonObject) }
      case "regex": if let pattern = try outputs.string(name) { try set(param, .regex(pattern)) }
      case "choice": try set(param, try Self.choice(outputs[name] ?? .null, param))
      case "grammar": if let grammar = try outputs.string(name) { try set(param, .grammar(grammar)) }
      // How vLLM's own backends write white space.
      case "disable_fallback", "disable_any_whitespace", "disable_additional_properties", "whitespace_pattern":
        try outputs.refuse(name) { $0.bool == false }
      default:
        throw .invalid(
          "'\(param.excerpt(80))' is not supported by this server", param: param.excerpt(80),
          code: "unsupported_parameter")
      }
    }
  }

  /// A schema as an object, a boolean, or a string of JSON, as vLLM takes it.
  private static func schema(_ value: JSONValue, _ param: String) throws(APIError) -> TextConstraint {
    var value = value
    if let text = value.string {
      do { value = try JSONValue.parse(Array(text.utf8), subject: "schema", limits: BodyLimits.chat.json) } catch {
        let reason = (error as? ModelError)?.reason ?? "\(error)"
        throw .invalid(
          "'\(param)' is a string that cannot be read as JSON: \(reason)", param: param, code: "invalid_value")
      }
    }
    guard value.object != nil || value.bool != nil else {
      throw .invalid("'\(param)' must be a JSON Schema: an object", param: param, code: "invalid_type")
    }
    return .schema(String(decoding: value.encoded, as: UTF8.self))
  }

  private static func choice(_ value: JSONValue, _ param: String) throws(APIError) -> TextConstraint {
    let texts = value.array?.compactMap(\.string) ?? []
    guard !texts.isEmpty, texts.count == value.array?.count, texts.count <= maximumChoices else {
      throw .invalid(
        "'\(param)' must be a list of 1 to \(maximumChoices) strings", param: param, code: "invalid_type")
    }
    return .choice(texts)
  }
}
