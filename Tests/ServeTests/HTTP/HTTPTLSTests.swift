import CLibevent
import Foundation
import Serve
import Testing

extension HTTPTests {
  @Suite struct TLS {
    /// A self-signed certificate and its key in a folder of their own.
    final class Certificate {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-tls-\(UUID().uuidString)")
      var certificate: String { folder.appendingPathComponent("cert.pem").path }
      var key: String { folder.appendingPathComponent("key.pem").path }

      init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
          "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout",
          key,
          "-out", certificate,
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "openssl made no certificate")
      }

      deinit { try? FileManager.default.removeItem(at: folder) }
    }

    /// Blocking TLS over a test client's socket.
    final class Session {
      let client: HTTPTestClient
      private let context: OpaquePointer
      private let ssl: OpaquePointer

      init(_ server: HTTPTestServer) throws {
        client = try server.client()
        context = try #require(SSL_CTX_new(TLS_client_method()))
        ssl = try #require(SSL_new(context))
        SSL_set_fd(ssl, client.descriptor)
        try #require(SSL_connect(ssl) == 1)
      }

      deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
      }

      func send(_ bytes: [UInt8]) throws {
        if !bytes.isEmpty { try #require(SSL_write(ssl, bytes, Int32(bytes.count)) == Int32(bytes.count)) }
      }

      func receive() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = SSL_read(ssl, &bytes, Int32(bytes.count))
        return Array(bytes.prefix(max(0, Int(count))))
      }

      func receiveAll() -> [UInt8] {
        var all: [UInt8] = []
        while case let bytes = receive(), !bytes.isEmpty { all += bytes }
        return all
      }
    }

    @Test func requestsStreamsAndPartingsWorkOverTLS() throws {
      let certificate = try Certificate()
      let closed = Flag()
      let begun = Flag()
      let server = try HTTPTestServer {
        $0.tls = .init(certificatePath: certificate.certificate, keyPath: certificate.key)
      } handler: { exchange in
        switch exchange.request.path.first {
        case "wait":
          exchange.onClose { closed.set() }
          begun.set()
        case "upload":
          final class State { var (count, sincePause) = (0, 0) }
          let state = State()
          exchange.streamBody(limit: 1 << 30) { bytes in
            state.count += bytes.count
            state.sincePause += bytes.count
            guard state.sincePause > 1 << 20 else { return }
            state.sincePause = 0
            exchange.pauseBody()
            exchange.loop.schedule(after: .milliseconds(1)) { exchange.resumeBody() }
          } onEnd: { _ in
            exchange.respond(status: 200, body: Array("got \(state.count)".utf8))
          }
        default: standardHandler(exchange)
        }
      }
      let upload = try Session(server)
      let total = 16 << 20
      try upload.send(
        Array("POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: \(total)\r\n\r\n".utf8))
      // Pieces that fill no record evenly.
      var left = total
      while left > 0 {
        let count = min(left, 40_961)
        try upload.send([UInt8](repeating: 1, count: count))
        left -= count
      }
      #expect(String(decoding: upload.receiveAll(), as: UTF8.self).hasSuffix("\r\n\r\ngot \(total)"))

      let download = try Session(server)
      try download.send(Array("GET /big?n=5000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".utf8))
      let all = download.receiveAll()
      #expect(all.suffix(5_000_000).allSatisfy { $0 == 0x61 })
      #expect(all.count > 5_000_000)

      for parting in [HTTPTestClient.close, HTTPTestClient.reset] {
        let waiting = try Session(server)
        try waiting.send(Array("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
        #expect(begun.wait())
        parting(waiting.client)()
        #expect(closed.wait())
      }
      // Plain text to a TLS port ends in a closed connection.
      let plain = try server.client()
      try plain.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(!String(decoding: try plain.receiveAll(), as: UTF8.self).contains("HTTP/1.1 200"))
      upload.client.close()
      download.client.close()
      plain.close()
      #expect(server.drains())
    }

    @Test func badCertificatesAreNamed() throws {
      let certificate = try Certificate()
      for (cert, key, subject) in [
        ("/no/such.pem", certificate.key, "certificate /no/such.pem"),
        (certificate.certificate, "/no/such.pem", "private key /no/such.pem"),
        (certificate.certificate, try Certificate().key, nil),
      ] as [(String, String, String?)] {
        let error = #expect(throws: HTTPServerError.self) {
          _ = try HTTPTestServer({ $0.tls = .init(certificatePath: cert, keyPath: key) }, handler: standardHandler)
        }
        if let subject { #expect(error?.subject == subject) }
      }
    }
  }
}
