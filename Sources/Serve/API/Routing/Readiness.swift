import Formats
internal import Model
internal import Synchronization

/// Stands before the routes: answers `/ready`, and everything while the server starts.
public final class Readiness: Sendable {
  private enum Phase {
    case starting
    case ready(HTTPServer.Handler, unreadiness: @Sendable () -> String?)
    case stopping(HTTPServer.Handler?)
  }

  private let phase = Mutex(Phase.starting)

  public init() {}

  /// Lets requests through to the routes, from any thread.
  /// - Parameter unreadiness: why `/ready` should say no all the same; `nil` while it need not
  public func open(
    _ routes: @escaping HTTPServer.Handler, unreadiness: @escaping @Sendable () -> String? = { nil }
  ) {
    phase.withLock { phase in
      if case .starting = phase { phase = .ready(routes, unreadiness: unreadiness) }
    }
  }

  /// `/ready` says no from now on; requests still go through.
  public func stop() {
    phase.withLock { phase in
      if case .ready(let routes, _) = phase { phase = .stopping(routes) } else { phase = .stopping(nil) }
    }
  }

  /// What the HTTP server calls.
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
