import Model

/// Server-sent events (WHATWG HTML, section 9.2) as OpenAI's clients read them.
enum SSEWriter {
  static func event(_ json: JSONValue) -> [UInt8] { event(json.encoded) }

  static func event(_ line: [UInt8]) -> [UInt8] { Array("data: ".utf8) + line + [0x0A, 0x0A] }

  /// Ends a stream that ended well.
  static let done = Array("data: [DONE]\n\n".utf8)
}

extension HTTPExchange {
  func respond(status: Int = 200, json: JSONValue) {
    respond(status: status, headers: ["Content-Type": "application/json"], body: json.encoded)
  }

  func respond(_ error: APIError) {
    var headers: HTTPHeaders = ["Content-Type": "application/json"]
    if error.status == 401 { headers.add("WWW-Authenticate", "Bearer") }
    if let seconds = error.retryAfter { headers.add("Retry-After", "\(seconds)") }
    if !error.mayBeRepeated { headers.add("x-should-retry", "false") }
    respond(status: error.status, headers: headers, body: error.json.encoded)
  }

  /// Reads a JSON object and hands it on; answers what is wrong with it otherwise.
  func collectJSON(limit: Int? = nil, then: @escaping (RequestFields) throws(APIError) -> Void) {
    if let error = unsupportedBody() { return respond(error) }
    collectBody(limit: limit) { [self] result in
      switch result {
      case .success(let bytes):
        do throws(APIError) { try then(try RequestFields(bytes)) } catch { respond(error) }
      case .failure(.tooLarge(let limit)):
        respond(.plain(status: 413, message: "The request body is over \(limit) bytes"))
      case .failure(.malformed), .failure(.timedOut), .failure(.disconnected): break  // answered, or nobody to answer
      }
    }
  }

  /// A body that says it is no JSON. curl calls what it sends a form unless told otherwise, so that is not believed.
  private func unsupportedBody() -> APIError? {
    if let coding = request.headers["content-encoding"], !equalIgnoringCase(coding, "identity") {
      return .plain(status: 415, message: "The content encoding '\(coding.prefix(40))' is not supported")
    }
    guard let value = request.headers["content-type"] else { return nil }
    let type = trimmedOptionalSpace(value.split(separator: ";").first.map(String.init) ?? "").lowercased()
    let isAccepted =
      type.isEmpty || type.hasSuffix("+json") || ["json", "application/json", "text/json", "text/plain"].contains(type)
      || type == "application/x-www-form-urlencoded" || type == "application/octet-stream"
    if isAccepted { return nil }
    return .plain(status: 415, message: "The content type '\(type.prefix(80))' is not supported; send application/json")
  }
}
