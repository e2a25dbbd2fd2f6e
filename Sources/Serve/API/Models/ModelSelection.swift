import Formats
import Model

/// The fields of a request's body that name its model and adapters.
struct ModelFields: Sendable {
  /// The value of `model`; `nil` where there is no such field.
  var model: JSONValue?
  var adapter: String?

  init(model: JSONValue? = nil, adapter: String? = nil) {
    self.model = model
    self.adapter = adapter
  }

  init(_ fields: RequestFields) throws(APIError) {
    adapter = try fields.string("adapter")
    model = fields.contains("model") ? fields["model"] ?? .null : nil
  }
}

/// The adapters that a request names in its query, in its body or by its model.
struct ModelSelection {
  var selector: AdapterSelector
  /// The model's name in the answer.
  var name: String
  /// The field that errors name.
  var param: String
}

extension ServerContext {
  private static let listedNames = 20

  /// Finds out which adapters a request names.
  /// - Throws: `APIError`, 400, for a malformed name, or for fields that name different adapters
  func selection(
    _ fields: ModelFields, query: [(name: String, value: String)]
  ) throws(APIError) -> ModelSelection {
    let inQuery = query.filter { $0.name == "adapter" }.map(\.value)
    guard inQuery.count <= 1 else {
      throw .invalid("'adapter' is given more than once", param: "adapter", code: "invalid_value")
    }
    let model = try modelName(fields.model)
    let isBase = model == nil || model == "base" || model == servedModelName
    var found = ModelSelection(
      selector: try AdapterSelector(isBase ? "" : model ?? "", param: "model"),
      name: isBase ? servedModelName : model ?? servedModelName, param: "model")
    for text in [fields.adapter, inQuery.first].compactMap(\.self) {
      let selector = try AdapterSelector(text, param: "adapter")
      let isFirst = found.param == "model" && found.selector.terms.isEmpty
      guard isFirst || found.selector.names(sameAs: selector) else {
        let other = found.param == "model" ? "'model'" : "the body's 'adapter'"
        throw .invalid(
          "'adapter' names '\(text.excerpt(200))' and \(other) names '\(found.name.excerpt(200))'", param: "adapter",
          code: "invalid_value")
      }
      let name = selector.terms.isEmpty ? servedModelName : text
      found = ModelSelection(selector: selector, name: name, param: "adapter")
    }
    return found
  }

  /// Checks that the named adapters exist, for routes whose answer does not depend on them.
  /// - Throws: `APIError`, 400 or 404
  func checkSelection(_ fields: ModelFields, query: [(name: String, value: String)]) throws(APIError) {
    let selection = try selection(fields, query: query)
    for term in selection.selector.terms where adapters[term.name] == nil {
      throw .invalid(
        "The model or adapter '\(term.name.excerpt(200))' does not exist; there are \(availableNames)",
        param: selection.param, code: "model_not_found", status: 404)
    }
  }

  /// - Returns: `nil` where there is no such field
  private func modelName(_ value: JSONValue?) throws(APIError) -> String? {
    switch value {
    case nil: return nil
    case .string(let name) where !name.isEmpty: return name
    case .string, .null:
      throw .invalid(
        "'model' is \(value == .null ? "null" : "empty"); leave it out for the base, or name one of \(availableNames)",
        param: "model", code: "invalid_value")
    default: throw .invalid("'model' must be a string", param: "model", code: "invalid_type")
    }
  }

  /// Some of the names that requests can use, for error messages.
  var availableNames: String {
    let adapters = self.adapters.someNames(limit: Self.listedNames)
    let names = ["base"] + (servedModelName == "base" ? [] : [servedModelName]) + adapters.names
    return names.map { "'\($0)'" }.joined(separator: ", ") + (adapters.hasMore ? " and more (GET /v1/models)" : "")
  }
}
