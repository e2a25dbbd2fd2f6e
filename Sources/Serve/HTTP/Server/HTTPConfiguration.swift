/// Where an `HTTPServer` listens and what it grants a connection.
public struct HTTPConfiguration: Sendable {
  /// Certificate chain and private key of a TLS listener, both PEM files.
  public struct TLS: Sendable, Equatable {
    public var certificatePath: String
    public var keyPath: String

    public init(certificatePath: String, keyPath: String) {
      self.certificatePath = certificatePath
      self.keyPath = keyPath
    }
  }

  /// Media type and bytes of an error's body.
  public typealias ErrorBody = @Sendable (_ status: Int, _ message: String) -> (contentType: String, bytes: [UInt8])

  /// An IPv4 or IPv6 address, or a name that resolves to one.
  public var host = "127.0.0.1"
  /// 0 takes a free port; `HTTPServer.port` tells which.
  public var port: UInt16 = 8080
  /// Connections the kernel queues before they are accepted.
  public var backlog: Int32 = 1024
  /// Connections held at once; beyond them accepting stops and clients wait in the backlog.
  public var maxConnections = 10_000
  /// `nil` serves plain text.
  public var tls: TLS?

  /// Bytes of the request line; over it, 414.
  public var maxRequestLineBytes = 16 << 10
  /// Bytes of request line and header fields together; over it, 431.
  public var maxHeaderBytes = 64 << 10
  /// Header fields of one request; over it, 431.
  public var maxHeaderCount = 100
  /// Body bytes where the handler names no limit of its own.
  public var maxBodyBytes = 16 << 20
  /// Bytes of all bodies together that are collected in memory; a body that does not fit gets a 503.
  public var maxBodyMemory = 256 << 20
  /// Bytes a second that a body must bring on average in each `bodyGracePeriod` in which it is waited for; a slower one
  /// gets a 408. So a sender that trickles cannot hold memory or an upload's place.
  public var minBodyRate = 1024
  public var bodyGracePeriod: Duration = .seconds(30)

  /// From the first byte of a request (or from accepting the connection, TLS handshake included) to the end of its
  /// header; over it, 408.
  public var headerTimeout: Duration = .seconds(10)
  /// How long a connection may wait for its next request.
  public var idleTimeout: Duration = .seconds(75)
  /// How long a body that is being read, or a reader that has bytes waiting for it, may make no progress.
  public var stallTimeout: Duration = .seconds(60)

  /// Response bytes in the connection's buffer below which `onDrain` fires.
  public var lowWatermark = 64 << 10
  /// Response bytes in the connection's buffer at which `write` returns false, and no further pipelined request starts.
  public var highWatermark = 256 << 10
  /// Streamed bytes in the buffer at which a connection whose writer ignores `write`'s answer is dropped.
  public var maxBufferedBytes = 8 << 20

  /// The `Server` header.
  public var serverName = "graft"
  /// Makes the bodies of the errors that the layer answers itself, and of `HTTPExchange.fail`.
  public var errorBody: ErrorBody = { _, message in ("text/plain; charset=utf-8", Array((message + "\n").utf8)) }

  /// Told of every exchange that has ended, on the loop; `nil` tells nobody.
  public var onEnd: (@Sendable (HTTPExchangeSummary) -> Void)?

  public init() {}
}

/// What became of a request.
public struct HTTPExchangeSummary: Sendable {
  /// As `x-request-id` gives it.
  public var id: String
  public var method: String
  /// Without the query.
  public var path: String
  /// `nil` if the client was gone before a response had begun.
  public var status: Int?
  /// Whether the response was sent to its end.
  public var isComplete: Bool
  /// From the end of the request's head.
  public var duration: Duration
  public var remoteAddress: String
}

/// Why a server cannot listen, in one line that names the address or file.
public struct HTTPServerError: Error, Equatable, Sendable, CustomStringConvertible {
  /// An address with its port, or a path.
  public let subject: String
  public let reason: String

  public init(_ subject: String, reason: String) {
    self.subject = subject
    self.reason = reason
  }

  /// "127.0.0.1 port 80: Permission denied"
  public var description: String { "\(subject): \(reason)" }
}
