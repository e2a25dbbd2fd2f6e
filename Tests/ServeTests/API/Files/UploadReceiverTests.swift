import Foundation
import Testing

@testable import Serve

/// Many uploads at once, by a fixed number of threads.
@Suite(.serialized) struct UploadReceiverTests {
  /// The threads that took in parts.
  private static let threads = Box<Set<UInt>>([])

  /// Counts a part's bytes.
  private final class CountingParts: UploadParts {
    private var bytes = 0
    let sizeLimit = 1 << 20
    let storageFailureStatus = 507

    func tooLarge(bodyLimit: Int) -> APIError { .plain(status: 413, message: "too large") }

    func take(_ event: MultipartParser.Event) throws {
      UploadReceiverTests.threads.update { $0.insert(currentThread()) }
      if case .bytes(let piece) = event { bytes += piece.count }
    }

    func finish() throws -> Int { bytes }
    func abandon() {}
  }

  private func server(_ service: UploadService) throws -> HTTPTestServer {
    try HTTPTestServer {
      $0.bodyGracePeriod = .seconds(600)
      $0.stallTimeout = .seconds(600)
    } handler: { exchange in
      do throws(APIError) {
        let client = ClientIdentity(address: exchange.request.remoteAddress)
        let request = RoutedRequest(exchange: exchange, captures: [:], client: client)
        try UploadReceiver(request, CountingParts(), service).receive { result in
          switch result {
          case .success(let bytes): exchange.respond(status: 200, body: Array("\(bytes)".utf8))
          case .failure(let error): exchange.respond(error)
          }
        }
      } catch { exchange.respond(error) }
    }
  }

  private func head(_ length: Int) -> String {
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: \(length)\r\n\r\n"
  }

  private let body =
    "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n12345\r\n--B--\r\n"

  /// Connections that have sent no byte of their body take no place, and no upload has a thread of its own.
  @Test func uploadsShareThreadsAndPlaces() throws {
    let service = UploadService(limit: 7, threads: 2, niceness: 0)
    let server = try server(service)
    var idle: [HTTPTestClient] = []
    for _ in 0..<100 {
      let client = try server.client()
      try client.send(head(body.utf8.count))
      idle.append(client)
    }
    let whole = try server.client()
    try whole.send(head(body.utf8.count) + body)
    #expect(try whole.receiveResponse().text == "5")
    // The idle ones begin; five find a place.
    for client in idle.prefix(5) { try client.send(String(body.prefix(10))) }
    let deadline = ContinuousClock.now + .seconds(30)
    while service.activeCount < 5, ContinuousClock.now < deadline { usleep(1000) }
    try idle[5].send(String(body.prefix(10)))
    let refused = try idle[5].receiveResponse()
    #expect(refused.status == 503 && refused.headers["retry-after"] == "1", "\(refused.status) \(refused.text)")
    // One that ends and one whose client leaves give their places back.
    try idle[0].send(String(body.dropFirst(10)))
    #expect(try idle[0].receiveResponse().text == "5")
    idle[1].close()
    while service.activeCount > 3, ContinuousClock.now < deadline { usleep(1000) }
    #expect(service.activeCount == 3)
    for client in idle[6..<20] {
      try client.send(body)
      #expect(try client.receiveResponse().text == "5")
    }
    #expect(Self.threads.value.count <= 2, "there is none for each upload")
  }
}
