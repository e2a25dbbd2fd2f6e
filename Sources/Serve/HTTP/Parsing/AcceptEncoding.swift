/// The content codings that a client accepts, from the Accept-Encoding fields of its request (RFC 9110, section 12.5.3).
struct AcceptEncoding {
  private let fields: [String]

  init(_ headers: HTTPHeaders) { fields = headers.values("accept-encoding") }

  /// Whether a gzip body is accepted. It is not if no field names it, or if a field names it with the weight 0.
  var acceptsGzip: Bool {
    var byStar = false
    for element in fields.flatMap({ $0.split(separator: ",") }) {
      let parts = element.split(separator: ";").map { trimmedOptionalSpace(String($0)).lowercased() }
      guard let coding = parts.first else { continue }
      let isAccepted = !parts.dropFirst().contains { $0.hasPrefix("q=") && (Double($0.dropFirst(2)) ?? 0) <= 0 }
      if coding == "gzip" || coding == "x-gzip" { return isAccepted }
      if coding == "*" { byStar = isAccepted }
    }
    return byStar
  }
}
