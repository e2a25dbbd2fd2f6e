import Console

/// The console's page at `/` and its files under `/console/`. They need no key: they are the same for everyone, and the page
/// asks for the key that its requests need.
enum ConsoleRoutes {
  static func add(to router: inout Router) {
    // The files are compressed when the list is first used: at the start, not during the first request.
    _ = (ConsolePage.index, ConsolePage.names)
    router.on("GET", "", isOpen: true) { answer($0.exchange, ConsolePage.index) }
    router.on("GET", "console/{file}", isOpen: true) { (request) throws(APIError) in
      guard let file = ConsolePage.file(named: request.captures["file"] ?? "") else {
        throw .invalid("The console has no such file", code: "unknown_url", status: 404)
      }
      answer(request.exchange, file)
    }
  }

  private static func answer(_ exchange: HTTPExchange, _ file: ConsoleFile) {
    let compressed = AcceptEncoding(exchange.request.headers).acceptsGzip ? file.compressed : nil
    let tag = compressed == nil ? file.entityTag : file.compressedTag
    let headers: HTTPHeaders = [
      "Content-Type": file.contentType, "ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding",
      "Content-Security-Policy": ConsolePage.securityPolicy, "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "no-referrer",
    ]
    let known = exchange.request.headers.values("if-none-match").flatMap { $0.split(separator: ",") }
      .map { trimmedOptionalSpace(String($0)) }
    if known.contains(where: { $0 == "*" || $0 == tag || $0 == "W/" + tag }) {
      return exchange.respond(status: 304, headers: headers)
    }
    if compressed != nil { exchange.setHeader("Content-Encoding", "gzip") }
    exchange.respond(status: 200, headers: headers, body: compressed ?? file.bytes)
  }
}
