import Console

/// The console's page at `/` and its files under `/console/`. They need no key: they are the same for everyone, and the page
/// asks for the key that its requests need.
enum ConsoleRoutes {
  static func add(to router: inout Router) {
    router.on("GET", "", isOpen: true) { answer($0.exchange, ConsolePage.index) }
    router.on("GET", "console/{file}", isOpen: true) { (request) throws(APIError) in
      guard let file = ConsolePage.file(named: request.captures["file"] ?? "") else {
        throw .invalid("The console has no such file", code: "unknown_url", status: 404)
      }
      answer(request.exchange, file)
    }
  }

  private static func answer(_ exchange: HTTPExchange, _ file: ConsoleFile) {
    let headers: HTTPHeaders = [
      "Content-Type": file.contentType, "ETag": file.entityTag, "Cache-Control": "no-cache",
      "Content-Security-Policy": ConsolePage.securityPolicy, "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "no-referrer",
    ]
    let known = exchange.request.headers.values("if-none-match").flatMap { $0.split(separator: ",") }
      .map { trimmedOptionalSpace(String($0)) }
    if known.contains(where: { $0 == "*" || $0 == file.entityTag || $0 == "W/" + file.entityTag }) {
      return exchange.respond(status: 304, headers: headers)
    }
    exchange.respond(status: 200, headers: headers, body: file.bytes)
  }
}
