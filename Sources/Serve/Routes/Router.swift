/// A request with what its path's pattern captured.
struct RoutedRequest {
  let exchange: HTTPExchange
  /// Values of the pattern's `{name}` segments.
  let captures: [String: String]
}

/// Which handler answers which method and path.
struct Router {
  typealias Handler = (RoutedRequest) throws(APIError) -> Void

  private struct Route {
    var method: String
    var pattern: [Substring]
    var isOpen: Bool
    var handler: Handler
  }

  private var routes: [Route] = []
  private let apiKey: String?

  /// - Parameter apiKey: what every route but open ones demands as a Bearer token; `nil` demands nothing
  init(apiKey: String?) { self.apiKey = apiKey }

  /// - Parameters:
  ///   - pattern: segments, of which `{name}` matches any one and `{name...}` the rest, joined by "/"
  ///   - isOpen: needs no key
  mutating func on(_ method: String, _ pattern: String, isOpen: Bool = false, _ handler: @escaping Handler) {
    routes.append(
      Route(method: method, pattern: pattern.split(separator: "/"), isOpen: isOpen, handler: handler))
  }

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
    if match?.route.isOpen != true { try authorize(request.headers["authorization"]) }
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
    try match.route.handler(RoutedRequest(exchange: exchange, captures: match.captures))
  }

  private func authorize(_ header: String?) throws(APIError) {
    guard let apiKey else { return }
    let prefix = "bearer "
    guard let header, header.lowercased().hasPrefix(prefix) else {
      throw .plain(status: 401, message: "No API key was given; send it as 'Authorization: Bearer KEY'")
    }
    // Every byte is compared, so that the time tells nothing of the key.
    let (given, wanted) = (Array(header.utf8.dropFirst(prefix.utf8.count)), Array(apiKey.utf8))
    var difference = given.count ^ wanted.count
    for i in wanted.indices { difference |= Int(wanted[i] ^ (i < given.count ? given[i] : 0)) }
    guard difference == 0 else { throw .plain(status: 401, message: "The API key is wrong") }
  }

  private func captures(_ pattern: [Substring], _ path: [String]) -> [String: String]? {
    var found: [String: String] = [:]
    for (index, segment) in pattern.enumerated() {
      guard index < path.count else { return nil }
      if segment.hasPrefix("{"), segment.hasSuffix("...}") {
        let rest = path[index...].joined(separator: "/")
        found[String(segment.dropFirst().dropLast(4))] = rest
        return rest.isEmpty ? nil : found
      }
      if segment.hasPrefix("{") {
        found[String(segment.dropFirst().dropLast())] = path[index]
      } else if segment != path[index] {
        return nil
      }
    }
    return pattern.count == path.count ? found : nil
  }
}
