/// A request with what the router has found out about it.
struct RoutedRequest {
  let exchange: HTTPExchange
  /// Values of the `{name}` segments in the route's pattern.
  let captures: [String: String]
  /// The request's sender, which is determined when the API key is checked.
  let client: ClientIdentity
}

/// The table of routes: which handler answers which method and path.
struct Router: Sendable {
  typealias Handler = @Sendable (RoutedRequest) throws(APIError) -> Void

  private struct Route {
    var method: String
    var pattern: [Substring]
    var isOpen: Bool
    var queryKeys: Set<String>
    var handler: Handler
  }

  private var routes: [Route] = []
  private let apiKey: String?
  private let unknownNames: UnknownNameLog

  /// - Parameters:
  ///   - apiKey: the Bearer token that all routes but open ones require; `nil`: none
  ///   - unknownNames: notes unknown query keys
  init(apiKey: String?, unknownNames: UnknownNameLog) {
    self.apiKey = apiKey
    self.unknownNames = unknownNames
  }

  /// Adds a route.
  /// - Parameters:
  ///   - pattern: segments; `{name}` matches one segment, and `{name...}` all up to the segments behind it, joined by "/". The
  ///     first of the patterns that match counts.
  ///   - isOpen: whether it requires no API key
  ///   - query: the query keys that the route has; "metadata" also means "metadata[…]"
  mutating func on(
    _ method: String, _ pattern: String, isOpen: Bool = false, query: Set<String> = [], _ handler: @escaping Handler
  ) {
    routes.append(
      Route(
        method: method, pattern: pattern.split(separator: "/"), isOpen: isOpen, queryKeys: query, handler: handler))
  }

  /// The routes, in the order in which they were added.
  var descriptions: [RouteDescription] {
    routes.map { route in
      let captures = route.pattern.filter { $0.hasPrefix("{") }.map { String($0.filter(\.isLetter)) }
      let segments = route.pattern.map { $0.hasPrefix("{") ? "{\($0.filter(\.isLetter))}" : String($0) }
      return RouteDescription(
        method: route.method, path: "/" + segments.joined(separator: "/"), captures: captures,
        queryKeys: route.queryKeys, isOpen: route.isOpen)
    }
  }

  /// Calls the route's handler, or answers that there is none.
  func handle(_ exchange: HTTPExchange) {
    do throws(APIError) { try dispatch(exchange) } catch { exchange.respond(error) }
  }

  private func dispatch(_ exchange: HTTPExchange) throws(APIError) {
    let request = exchange.request
    let matches = routes.compactMap { route in
      captures(route.pattern, request.path).map { (route: route, captures: $0) }
    }
    let method = request.method == "HEAD" ? "GET" : request.method
    let match = matches.first { $0.route.method == method }
    var client = ClientIdentity(address: request.remoteAddress)
    if match?.route.isOpen != true { client.key = try verifiedKey(request.headers["authorization"]) }
    guard let match else {
      guard !matches.isEmpty else {
        throw .invalid(
          "Unknown request URL: \(request.method) /\(request.path.joined(separator: "/"))", code: "unknown_url",
          status: 404)
      }
      let allowed = Set(matches.map(\.route.method)).sorted().joined(separator: ", ")
      exchange.setHeader("Allow", allowed)
      throw .plain(status: 405, message: "\(request.method) is not allowed here; \(allowed) is")
    }
    // An open route has no query keys, and anyone could fill the log with unknown ones.
    if !match.route.isOpen { try checkQuery(request, match.route.queryKeys) }
    try match.route.handler(RoutedRequest(exchange: exchange, captures: match.captures, client: client))
  }

  /// Refuses query keys that look misspelt, since ignoring them would change the answer silently.
  private func checkQuery(_ request: HTTPRequestHead, _ known: Set<String>) throws(APIError) {
    for (name, _) in request.queryItems where !known.contains(name) {
      // Some clients write a list's key as "adapter[]" or "adapter[0]".
      let stem = String(name.prefix { $0 != "[" && $0 != ";" })
      if stem == "metadata", known.contains(stem) { continue }
      var meant = known.contains(stem) ? stem : NearNames.nearest(stem, among: known.sorted())
      if known.contains("adapter"), AdapterSelector.otherNames.contains(stem) || stem == "model" { meant = "adapter" }
      if let meant {
        throw .invalid(
          "Unknown query key '\(name.excerpt(80))': did you mean '\(meant)'?", param: name.excerpt(80),
          code: "unknown_parameter")
      }
      unknownNames.note("query key", name, path: "/" + request.path.joined(separator: "/"))
    }
  }

  /// Checks the API key.
  /// - Returns: a name for the key; `nil` where none is required
  /// - Throws: a 401
  private func verifiedKey(_ header: String?) throws(APIError) -> String? {
    guard let apiKey else { return nil }
    let prefix = "bearer "
    guard let header, header.lowercased().hasPrefix(prefix) else {
      throw .plain(status: 401, message: "No API key was given; send it as 'Authorization: Bearer KEY'")
    }
    // All bytes are compared, so that the time does not depend on how many are right.
    let (given, wanted) = (Array(header.utf8.dropFirst(prefix.utf8.count)), Array(apiKey.utf8))
    var difference = given.count ^ wanted.count
    for i in wanted.indices { difference |= Int(wanted[i] ^ (i < given.count ? given[i] : 0)) }
    guard difference == 0 else { throw .plain(status: 401, message: "The API key is wrong") }
    return "api-key"
  }

  private func captures(_ pattern: [Substring], _ path: [String]) -> [String: String]? {
    var found: [String: String] = [:]
    var rest = path[...]
    for (index, segment) in pattern.enumerated() {
      let takesAll = segment.hasSuffix("...}")
      let count = takesAll ? rest.count - (pattern.count - index - 1) : 1
      guard count >= 1, count <= rest.count else { return nil }
      let value = rest.prefix(count).joined(separator: "/")
      rest = rest.dropFirst(count)
      if takesAll {
        if value.isEmpty { return nil }
        found[String(segment.dropFirst().dropLast(4))] = value
      } else if segment.hasPrefix("{") {
        found[String(segment.dropFirst().dropLast())] = value
      } else if segment != value {
        return nil
      }
    }
    return rest.isEmpty ? found : nil
  }
}
