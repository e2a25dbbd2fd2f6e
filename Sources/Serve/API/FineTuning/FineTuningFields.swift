import Formats
import Model
import Train

extension FineTuningRequest {
  private static let maximumSuffix = 64

  /// Reads the body of `POST /v1/fine_tuning/jobs`.
  /// - Throws: `APIError`, 400, that names the field
  init(_ fields: RequestFields, servedModelName: String) throws(APIError) {
    func required(_ name: String) throws(APIError) -> String {
      guard let value = try fields.string(name), !value.isEmpty else {
        throw .invalid("'\(name)' is missing", param: name, code: "missing_required_parameter")
      }
      return value
    }
    let model = try required("model")
    let (method, hyperparameters) = try Self.method(fields)
    let isBase = model == "base" || model == servedModelName
    var initial = isBase ? nil : try Self.initial(model, param: "model")
    if let name = hyperparameters["init_adapter"]?.string, name != "auto" {
      let param = "method.\(method.rawValue).hyperparameters.init_adapter"
      let named = try Self.initial(name, param: param)
      guard initial == nil || initial?.reference == named.reference else {
        throw .invalid(
          "'init_adapter' is '\(name)', but 'model' names another adapter to go on from, '\(model)'", param: param,
          code: "invalid_value")
      }
      initial = named
    }
    let suffix = try fields.string("suffix")
    if let suffix, suffix.count > Self.maximumSuffix {
      throw .invalid(
        "'suffix' must have at most \(Self.maximumSuffix) characters", param: "suffix", code: "invalid_value")
    }
    self.init(
      model: model, initial: initial, trainingFile: try required("training_file"),
      validationFile: try fields.string("validation_file"), suffix: suffix,
      seed: try fields.integer("seed", in: 0...Int.max) ?? Int.random(in: 0...Int(Int32.max)),
      method: method, hyperparameters: hyperparameters, metadata: try fields.metadata(),
      samplePrompts: try Self.samplePrompts(fields))
  }

  private static func samplePrompts(_ fields: RequestFields) throws(APIError) -> [String] {
    let name = "sample_prompts"
    guard let value = fields[name], !value.isNull else { return [] }
    let (count, length) = (FineTuningService.maximumSamplePrompts, FineTuningService.maximumSamplePromptLength)
    let prompts = value.array?.compactMap(\.string) ?? []
    guard let list = value.array, prompts.count == list.count, list.count <= count,
      prompts.allSatisfy({ (1...length).contains($0.unicodeScalars.count) })
    else {
      throw .invalid(
        "'\(name)' must be a list of at most \(count) strings, each of 1 to \(length) characters", param: name,
        code: "invalid_value")
    }
    return prompts
  }

  private static func initial(_ name: String, param: String) throws(APIError) -> Initial {
    let terms = try AdapterSelector(name, param: param).terms
    guard terms.count == 1, let term = terms.first, (term.scale ?? 1) == 1 else {
      throw .invalid("'\(name)' is not one adapter without a scale", param: param, code: "invalid_value")
    }
    return Initial(reference: AdapterReference(name: term.name, version: term.version), param: param)
  }

  /// `method`, or the older `hyperparameters` beside it.
  private static func method(
    _ fields: RequestFields
  ) throws(APIError) -> (Hyperparameters.Method, JSONObject) {
    let nothing = JSONObject(keepingFirst: [])
    func object(_ value: JSONValue?, _ param: String) throws(APIError) -> JSONObject {
      guard let value, !value.isNull else { return nothing }
      guard let object = value.object else {
        throw .invalid("'\(param)' must be an object", param: param, code: "invalid_type")
      }
      return object
    }
    let legacy = try object(fields["hyperparameters"], "hyperparameters")
    guard fields["method"] != nil else { return (.supervised, legacy) }
    let given = try object(fields["method"], "method")
    guard let type = given["type"]?.string else {
      throw .invalid("'method.type' is missing", param: "method.type", code: "missing_required_parameter")
    }
    guard let method = Hyperparameters.Method(rawValue: type) else {
      throw .invalid(
        "'\(type.excerpt(40))' is not one of 'supervised', 'dpo'", param: "method.type", code: "invalid_value")
    }
    for key in given.keys where key != "type" && key != type && given[key]?.isNull == false {
      throw .invalid("'method.\(key)' does not go with the type '\(type)'", param: "method.\(key)")
    }
    let settings = try object(given[type], "method.\(type)")
    for key in settings.keys where key != "hyperparameters" {
      throw .invalid("'method.\(type).\(key)' is not known", param: "method.\(type).\(key)", code: "unknown_parameter")
    }
    let hyperparameters = try object(settings["hyperparameters"], "method.\(type).hyperparameters")
    guard legacy.isEmpty || hyperparameters.isEmpty else {
      throw .invalid("'hyperparameters' cannot go with those of 'method'", param: "hyperparameters")
    }
    return (method, hyperparameters.isEmpty ? legacy : hyperparameters)
  }
}
