internal import CLibevent

/// The certificate and the private key of a TLS listener.
final class TLSContext {
  private let context: OpaquePointer

  /// - Throws: `HTTPServerError` that names the file at fault.
  init(_ configuration: HTTPConfiguration.TLS) throws {
    guard let context = graft_tls_context_new() else { throw Self.error("TLS") }
    self.context = context
    guard SSL_CTX_use_certificate_chain_file(context, configuration.certificatePath) == 1 else {
      throw Self.error("certificate \(configuration.certificatePath)")
    }
    guard graft_tls_use_private_key(context, configuration.keyPath) == 1, SSL_CTX_check_private_key(context) == 1 else {
      throw Self.error("private key \(configuration.keyPath)")
    }
  }

  deinit { SSL_CTX_free(context) }

  /// A bufferevent that speaks TLS over an accepted socket, which it owns; `nil` if there is no memory.
  func makeBufferEvent(loop: EventLoop, socket: Int32) -> OpaquePointer? {
    guard let session = SSL_new(context) else { return nil }
    guard let event = graft_bufferevent_new_tls(loop.base, socket, session) else {
      SSL_free(session)
      return nil
    }
    return event
  }

  /// Sends close_notify if the connection is one over TLS.
  static func shutdown(_ bufferEvent: OpaquePointer) {
    guard let session = bufferevent_openssl_get_ssl(bufferEvent) else { return }
    SSL_shutdown(session)
    ERR_clear_error()
  }

  private static func error(_ subject: String) -> HTTPServerError {
    var buffer = [CChar](repeating: 0, count: 256)
    graft_tls_error(&buffer, buffer.count)
    return HTTPServerError(subject, reason: string(fromC: buffer))
  }
}
