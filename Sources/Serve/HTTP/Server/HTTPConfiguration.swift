/// Where an `HTTPServer` listens, and the limits of its connections.
public struct HTTPConfiguration: Sendable {
  /// Certificate chain and private key of a TLS listener, both PEM files.
  public struct TLS: Sendable, Equatable {
    /// The file of the certificate chain.
    public var certificatePath: String
    /// The file of the private key.
    public var keyPath: String

    /// - Parameters: paths of PEM files
    public init(certificatePath: String, keyPath: String) {
      self.certificatePath = certificatePath
      self.keyPath = keyPath
    }
  }

  /// Media type and bytes of an error's body.
  public typealias ErrorBody = @Sendable (_ status: Int, _ message: String) -> (contentType: String, bytes: [UInt8])

  /// An IPv4 or IPv6 address, or a name that resolves to one.
  public var host = "127.0.0.1"
  /// 0 takes a free port, which `HTTPServer.port` then is.
  public var port: UInt16 = 8080
  /// Maximum connections that wait in the kernel to be accepted.
  public var backlog: Int32 = 1024
  /// Maximum open connections. When there are so many, further clients wait in the backlog.
  public var maxConnections = 10_000
  /// `nil` serves plain text.
  public var tls: TLS?

  /// Maximum bytes of a request line. The answer to a longer one is 414.
  public var maxRequestLineBytes = 16 << 10
  /// Maximum bytes of request line and header fields together. The answer to more is 431.
  public var maxHeaderBytes = 64 << 10
  /// Maximum header fields of a request. The answer to more is 431.
  public var maxHeaderCount = 100
  /// Maximum bytes of a body where the handler gives no other limit.
  public var maxBodyBytes = 16 << 20
  /// Maximum bytes of all bodies that are collected in memory, and of stored conversations that requests continue. The answer
  /// to a request for which there is no room is 503.
  public var maxBodyMemory = 256 << 20
  /// Minimum bytes per second of a body, on average over each `bodyGracePeriod` that the server waits for it. The answer
  /// to a slower one is 408, so that a slow sender cannot hold memory, or the slot of an upload, for long.
  public var minBodyRate = 1024
  /// The time over which `minBodyRate` is measured.
  public var bodyGracePeriod: Duration = .seconds(30)

  /// Maximum time from the first byte of a request to the end of its header; for the first request from the beginning of
  /// the connection, with the TLS handshake. The answer to a slower one is 408.
  public var headerTimeout: Duration = .seconds(10)
  /// How long a connection waits for its next request.
  public var idleTimeout: Duration = .seconds(75)
  /// How long the server waits for further bytes of a body, or for a client to read what it has sent.
  public var stallTimeout: Duration = .seconds(60)

  /// How long nothing may be sent of a response that asks for its silence to be filled.
  public var maxSilence: Duration = .seconds(15)

  /// When fewer response bytes are in the connection's buffer, `onDrain` is called.
  public var lowWatermark = 64 << 10
  /// When as many response bytes are in the connection's buffer, `write` returns false and no further pipelined request
  /// is read.
  public var highWatermark = 256 << 10
  /// When as many response bytes are in the connection's buffer, since `write`'s result was ignored, the connection is
  /// closed.
  public var maxBufferedBytes = 8 << 20

  /// The `Server` header.
  public var serverName = "graft"
  /// Makes the bodies of the HTTP layer's own errors, and of `HTTPExchange.fail`.
  public var errorBody: ErrorBody = { _, message in ("text/plain; charset=utf-8", Array((message + "\n").utf8)) }

  /// Called on the loop for every exchange that has ended.
  public var onEnd: (@Sendable (HTTPExchangeSummary) -> Void)?

  /// The defaults.
  public init() {}
}

/// How an exchange ended, for the log.
public struct HTTPExchangeSummary: Sendable {
  /// The value of `x-request-id`.
  public var id: String
  /// The request's method.
  public var method: String
  /// The request's path, without the query.
  public var path: String
  /// The response's status; `nil` if the client left before a response began.
  public var status: Int?
  /// Whether the response was written completely.
  public var isComplete: Bool
  /// Time since the end of the request's head.
  public var duration: Duration
  /// The client's numeric address.
  public var remoteAddress: String
}

/// Why a server cannot listen, in one line that names the address or file.
public struct HTTPServerError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The address and port, or the file's path.
  public let subject: String
  /// What is wrong with it.
  public let reason: String

  /// - Parameters: as the properties
  public init(_ subject: String, reason: String) {
    self.subject = subject
    self.reason = reason
  }

  /// Such as "127.0.0.1 port 80: Permission denied".
  public var description: String { "\(subject): \(reason)" }
}
