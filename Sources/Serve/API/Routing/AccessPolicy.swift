internal import Glibc

/// Decides by a request's `Host` and `Origin` whether it is answered.
///
/// Every web page that a user opens can send requests to a server on the user's machine. Such a request has the page's
/// `Origin`. If the page's own name resolves to the server's address (DNS rebinding), the request has the page's name
/// as its `Host`. So without an API key, only requests to the server's own names are answered, and requests of other
/// origins only if they were allowed.
public struct AccessPolicy: Sendable {
  /// Which `Host`s are answered, beside those in `allowedHosts`.
  public enum Hosts: Sendable {
    /// All, since the server has an API key.
    case any
    /// `localhost` and loopback addresses.
    case loopback
    /// `localhost` and all numeric addresses, which are no page's own name.
    case addresses
  }

  private let hosts: Hosts
  private let allowedHosts: Set<String>
  private let allowedOrigins: Set<String>
  private let allowsAnyOrigin: Bool

  /// - Parameters:
  ///   - hosts: which hosts are answered
  ///   - allowedHosts: further names or addresses; a port is ignored
  ///   - allowedOrigins: `scheme://host[:port]`, or "*" for all
  public init(hosts: Hosts, allowedHosts: [String] = [], allowedOrigins: [String] = []) {
    self.hosts = hosts
    self.allowedHosts = Set(allowedHosts.compactMap { $0 == "*" ? $0 : Self.name(ofAuthority: $0) })
    self.allowedOrigins = Set(allowedOrigins.map { Self.normalized(origin: $0) })
    allowsAnyOrigin = allowedOrigins.contains("*")
  }

  /// A handler that answers refused requests and browsers' preflight requests, and gives all others to `handler`.
  public func guarding(_ handler: @escaping HTTPServer.Handler) -> HTTPServer.Handler {
    { exchange in
      do throws(APIError) {
        guard try admit(exchange) else { return }
        handler(exchange)
      } catch { exchange.respond(error) }
    }
  }

  /// - Returns: false for a preflight request, which was answered
  /// - Throws: the answer to a refused request
  private func admit(_ exchange: HTTPExchange) throws(APIError) -> Bool {
    let request = exchange.request
    for authority in request.headers.values("host") + [Self.authority(ofTarget: request.target)].compactMap(\.self) {
      try checkHost(authority)
    }
    let origins = request.headers.values("origin")
    guard origins.count <= 1 else { throw .plain(status: 403, message: "The request has several origins") }
    if !allowedOrigins.isEmpty { exchange.setHeader("Vary", "Origin") }
    guard let origin = origins.first else {
      guard allowsAnyOrigin || request.headers["sec-fetch-site"]?.lowercased() != "cross-site" else {
        throw .plain(
          status: 403, message: "Requests from other sites' pages are refused; \(AccessAdvice.anotherSite)")
      }
      return true
    }
    if allowsAnyOrigin || allowedOrigins.contains(Self.normalized(origin: origin)) {
      return answerCrossOrigin(exchange, origin)
    }
    guard let host = request.headers["host"], Self.isSame(origin: origin, host: host) else {
      throw .plain(
        status: 403,
        message:
          "Requests from pages of the origin '\(origin.excerpt(200))' are refused; \(AccessAdvice.origin)"
      )
    }
    return true
  }

  // MARK: hosts

  private func checkHost(_ authority: String) throws(APIError) {
    if case .any = hosts { return }
    let name = Self.name(ofAuthority: authority) ?? ""
    if Self.isLoopback(name: name) { return }
    if case .addresses = hosts, Self.isAddress(name) { return }
    guard !name.isEmpty, allowedHosts.contains(name) || allowedHosts.contains("*") else {
      throw .plain(
        status: 403,
        message:
          "The host '\(authority.excerpt(200))' is not answered; \(AccessAdvice.host)"
      )
    }
  }

  /// An authority's host without its port, in lower case and without a final dot; an IPv6 address without brackets.
  /// `nil` for what is no authority (RFC 3986, section 3.2).
  static func name(ofAuthority authority: String) -> String? {
    var name = trimmedOptionalSpace(authority.lowercased())[...]
    var port = Substring()
    if name.hasPrefix("[") {
      guard let end = name.firstIndex(of: "]") else { return nil }
      port = name[name.index(after: end)...]
      name = name[name.index(after: name.startIndex)..<end]
      guard name.contains(":"), isAddress(String(name)) else { return nil }
    } else if let colon = name.firstIndex(of: ":") {
      port = name[colon...]
      name = name[..<colon]
    }
    guard port.isEmpty || port.first == ":" && port.dropFirst().utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      return nil
    }
    if name.hasSuffix(".") { name = name.dropLast() }
    return String(name)
  }

  /// Whether a host certainly is this machine.
  public static func isLoopback(_ host: String) -> Bool {
    // A flag gives an IPv6 address without brackets, a header with them.
    isLoopback(name: name(ofAuthority: host) ?? host.lowercased())
  }

  private static func isLoopback(name: String) -> Bool {
    if name == "localhost" || name.hasSuffix(".localhost") { return true }
    var four = in_addr()
    if inet_pton(AF_INET, name, &four) == 1 { return UInt32(bigEndian: four.s_addr) >> 24 == 127 }
    var six = in6_addr()
    guard inet_pton(AF_INET6, name, &six) == 1 else { return false }
    let bytes = withUnsafeBytes(of: six) { Array($0) }
    let isMapped = bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xFF && bytes[11] == 0xFF
    return bytes.dropLast().allSatisfy { $0 == 0 } && bytes[15] == 1 || isMapped && bytes[12] == 127
  }

  private static func isAddress(_ name: String) -> Bool {
    var bytes = in6_addr()
    return inet_pton(AF_INET, name, &bytes) == 1 || inet_pton(AF_INET6, name, &bytes) == 1
  }

  /// The authority of a target that is a whole URL, which counts as the request's host (RFC 9112, section 3.2.2).
  private static func authority(ofTarget target: String) -> String? {
    let lower = target.lowercased()
    guard let scheme = ["http://", "https://"].first(where: lower.hasPrefix) else { return nil }
    let authority = lower.dropFirst(scheme.count).prefix { $0 != "/" && $0 != "?" }
    return String(authority.split(separator: "@", omittingEmptySubsequences: false).last ?? "")
  }

  // MARK: origins

  /// In lower case, without a final slash.
  private static func normalized(origin: String) -> String {
    var text = trimmedOptionalSpace(origin.lowercased())
    if text.hasSuffix("/") { text.removeLast() }
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")]
    where text.hasPrefix(scheme) && text.hasSuffix(port) {
      text.removeLast(port.count)
    }
    return text
  }

  /// Whether a page's origin is the server's own: the scheme is not compared, since a proxy may have ended TLS.
  private static func isSame(origin: String, host: String) -> Bool {
    let origin = normalized(origin: origin)
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] where origin.hasPrefix(scheme) {
      let (page, server) = (String(origin.dropFirst(scheme.count)), trimmedOptionalSpace(host.lowercased()))
      func withPort(_ authority: String) -> String {
        let hasPort = authority.hasPrefix("[") ? !authority.hasSuffix("]") : authority.contains(":")
        return hasPort ? authority : authority + port
      }
      return withPort(page) == withPort(server)
    }
    return false
  }

  /// Lets a page of an allowed origin read the answer (WHATWG Fetch, section 3.3).
  /// - Returns: false for a preflight request, which was answered
  /// - Throws: the answer to a refused request
  private func answerCrossOrigin(_ exchange: HTTPExchange, _ origin: String) -> Bool {
    let headers = exchange.request.headers
    exchange.setHeader("Access-Control-Allow-Origin", origin)
    exchange.setHeader("Access-Control-Expose-Headers", "x-request-id, retry-after, x-should-retry, x-graft-warning")
    guard exchange.request.method == "OPTIONS", headers["access-control-request-method"] != nil else { return true }
    exchange.setHeader("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
    exchange.setHeader(
      "Access-Control-Allow-Headers", headers["access-control-request-headers"] ?? "authorization, content-type")
    if headers["access-control-request-private-network"] == "true" {
      exchange.setHeader("Access-Control-Allow-Private-Network", "true")
    }
    exchange.setHeader("Access-Control-Max-Age", "600")
    exchange.respond(status: 204)
    return false
  }
}
