import Testing

@testable import Serve

/// Which hosts and pages are answered.
@Suite(.serialized) struct AccessPolicyTests {
  private func server(_ policy: AccessPolicy) throws -> HTTPTestServer {
    try HTTPTestServer(handler: policy.guarding(standardHandler))
  }

  /// The status of `GET /hello` with these lines of the head.
  private func status(_ server: HTTPTestServer, _ lines: String..., target: String = "/hello") throws -> Int {
    let client = try server.client()
    try client.send("GET \(target) HTTP/1.1\r\n" + lines.map { $0 + "\r\n" }.joined() + "\r\n")
    return try client.receiveResponse().status
  }

  private static let loopbackHosts = [
    "localhost", "LOCALHOST:8080", "localhost.", "a.localhost:80", "127.0.0.1", "127.9.8.7:8080", "[::1]", "[::1]:8080",
    "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]:80",
  ]
  private static let addresses = ["10.0.0.1", "192.168.1.5:8080", "[fe80::1]", "[2001:db8::1]:443", "0.0.0.0"]
  private static let names = [
    "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost", "1.2.3",
    "127.0.0.1.", "0x7f.1", "[evil]", "[::1]evil.example", "[::1].evil.example:80", "[127.0.0.1]", "::1",
    "localhost:abc", "localhost:80:80", "",
  ]

  @Test func withoutAKeyOnlyOwnNamesAreAnswered() throws {
    let loopback = try server(AccessPolicy(hosts: .loopback, allowedHosts: ["box.lan:8080", "10.0.0.1"]))
    for host in Self.loopbackHosts + ["box.lan", "BOX.lan:1234", "10.0.0.1:80"] {
      #expect(try status(loopback, "Host: \(host)") == 200, "\(host)")
    }
    for host in Self.addresses.dropFirst() + Self.names.filter({ $0 != "127.0.0.1." }) {
      #expect(try status(loopback, "Host: \(host)") == 403, "\(host)")
    }
    let addresses = try server(AccessPolicy(hosts: .addresses))
    for host in Self.loopbackHosts + Self.addresses {
      #expect(try status(addresses, "Host: \(host)") == 200, "\(host)")
    }
    for host in Self.names where host != "127.0.0.1." {
      #expect(try status(addresses, "Host: \(host)") == 403, "\(host)")
    }
    let keyed = try server(AccessPolicy(hosts: .any))
    for host in Self.loopbackHosts + Self.addresses + Self.names where !host.hasPrefix("[") || host.hasSuffix("]") {
      #expect(try status(keyed, "Host: \(host)") == 200, "\(host)")
    }
  }

  /// A target that is a whole URL names the host, too.
  @Test func theTargetsHostCounts() throws {
    let server = try server(AccessPolicy(hosts: .loopback))
    #expect(try status(server, "Host: localhost", target: "http://localhost:80/hello") == 200)
    #expect(try status(server, "Host: localhost", target: "http://evil.example/hello") == 403)
    #expect(try status(server, "Host: localhost", target: "HTTP://user@evil.example/hello") == 403)
  }

  @Test func otherPagesAreRefused() throws {
    for hosts in [AccessPolicy.Hosts.loopback, .any] {
      let server = try server(AccessPolicy(hosts: hosts))
      for origin in [
        "http://evil.example", "https://localhost", "http://localhost:3000", "http://127.0.0.1:8080", "null", "file://",
        "http://localhost:8080.evil.example", "localhost:8080", "",
      ] {
        #expect(try status(server, "Host: localhost:8080", "Origin: \(origin)") == 403, "\(origin)")
      }
      for (host, origin) in [
        ("localhost:8080", "http://localhost:8080"), ("LOCALHOST:8080", "http://localhost:8080"),
        ("localhost", "http://localhost"), ("localhost:80", "http://localhost"), ("localhost:443", "https://localhost"),
        ("localhost", "https://localhost"), ("[::1]:8080", "http://[::1]:8080"),
      ] {
        #expect(try status(server, "Host: \(host)", "Origin: \(origin)") == 200, "\(host) \(origin)")
      }
      #expect(try status(server, "Host: localhost", "Sec-Fetch-Site: cross-site") == 403)
      for site in ["same-origin", "same-site", "none"] {
        #expect(try status(server, "Host: localhost", "Sec-Fetch-Site: \(site)") == 200, "\(site)")
      }
      #expect(try status(server, "Host: localhost", "Origin: http://localhost", "Origin: http://evil") == 403)
    }
  }

  @Test func allowedPagesMayReadTheAnswer() throws {
    let server = try server(
      AccessPolicy(
        hosts: .loopback, allowedHosts: ["test"], allowedOrigins: ["https://App.example", "http://localhost:3000/"]))
    let client = try server.client()
    for origin in ["https://app.example", "http://localhost:3000"] {
      let response = try client.get("/hello", headers: "Origin: \(origin)\r\nSec-Fetch-Site: cross-site\r\n")
      #expect(response.status == 200 && response.headers["access-control-allow-origin"] == origin)
      #expect(response.headers["vary"] == "Origin")
      // Errors can be read as well.
      let missing = try client.get("/nowhere", headers: "Origin: \(origin)\r\n")
      #expect(missing.status == 404 && missing.headers["access-control-allow-origin"] == origin)
    }
    let plain = try client.get("/hello")
    #expect(plain.headers["access-control-allow-origin"] == nil && plain.headers["vary"] == "Origin")
    #expect(try client.get("/hello", headers: "Origin: https://other.example\r\n").status == 403)
  }

  @Test func preflightRequestsAreAnswered() throws {
    let server = try server(
      AccessPolicy(hosts: .loopback, allowedHosts: ["test"], allowedOrigins: ["https://app.example"]))
    let client = try server.client()
    func preflight(_ origin: String) throws -> WireResponse {
      try client.send(
        "OPTIONS /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: \(origin)\r\nAccess-Control-Request-Method: POST\r\n"
          + "Access-Control-Request-Headers: authorization,content-type\r\n"
          + "Access-Control-Request-Private-Network: true\r\n\r\n")
      return try client.receiveResponse()
    }
    let allowed = try preflight("https://app.example")
    #expect(allowed.status == 204 && allowed.headers["access-control-allow-origin"] == "https://app.example")
    #expect(allowed.headers["access-control-allow-methods"]?.contains("POST") == true)
    #expect(allowed.headers["access-control-allow-headers"] == "authorization,content-type")
    #expect(allowed.headers["access-control-allow-private-network"] == "true")
    #expect(try preflight("https://evil.example").status == 403)
    let any = try self.server(AccessPolicy(hosts: .any, allowedOrigins: ["*"]))
    let response = try any.client().get("/hello", headers: "Origin: null\r\nSec-Fetch-Site: cross-site\r\n")
    #expect(response.status == 200 && response.headers["access-control-allow-origin"] == "null")
  }
}
