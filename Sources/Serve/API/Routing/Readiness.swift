import Formats
internal import Model
internal import Synchronization

/// Handles requests before the routes do: answers `/ready`, and all requests while the server starts.
public final class Readiness: Sendable {
  private enum Phase {
    case starting
    case ready(HTTPServer.Handler, unreadiness: @Sendable () -> String?)
    case stopping(HTTPServer.Handler?)
  }

  private let phase = Mutex(Phase.starting)

  /// The server is starting.
  public init() {}

  /// Gives requests to the routes from now on. From any thread.
  /// - Parameter unreadiness: asked by `/ready`; returns why the server is not ready for more requests, or `nil` if it
  ///   is
  public func open(
    _ routes: @escaping HTTPServer.Handler, unreadiness: @escaping @Sendable () -> String? = { nil }
  ) {
    phase.withLock { phase in
      if case .starting = phase { phase = .ready(routes, unreadiness: unreadiness) }
    }
  }

  /// Makes `/ready` report an error from now on. Other requests still go to the routes.
  public func stop() {
    phase.withLock { phase in
      if case .ready(let routes, _) = phase { phase = .stopping(routes) } else { phase = .stopping(nil) }
    }
  }

  /// What the OpenAPI document says about the route that is answered here.
  static let route = RouteDescription(method: "GET", path: "/ready", captures: [], queryKeys: [], isOpen: true)

  /// Handles requests; called by the HTTP server.
  public var handler: HTTPServer.Handler { { [self] in handle($0) } }

  private func handle(_ exchange: HTTPExchange) {
    let isAsked = exchange.request.path == ["ready"] && ["GET", "HEAD"].contains(exchange.request.method)
    switch phase.withLock({ $0 }) {
    case .ready(let routes, let unreadiness):
      guard isAsked else { return routes(exchange) }
      if let reason = unreadiness() { return refuse(exchange, reason) }
      exchange.respond(json: ["status": "ready"])
    case .stopping(let routes?) where !isAsked: routes(exchange)
    case .stopping: refuse(exchange, "The server is shutting down")
    case .starting: refuse(exchange, "The server is starting: the model is being loaded")
    }
  }

  private func refuse(_ exchange: HTTPExchange, _ message: String) {
    exchange.setHeader("Retry-After", "1")
    exchange.respond(.plain(status: 503, message: message))
  }
}
