public import Formats
public import Foundation
import FoundationNetworking
import Synchronization

/// Sends requests to one server and waits for the replies, on the caller's thread. It follows no redirects.
public struct HTTPClient: Sendable {
  /// "http://127.0.0.1:8080", without a slash at the end.
  public let address: String
  private let key: String?

  /// Seconds without a byte after which a request fails. A job that waits for others has no events for hours.
  private static let patience: TimeInterval = 86_400

  /// - Parameters:
  ///   - url: the server's address; "localhost:8080" means HTTP, and a path of "/v1" is dropped
  ///   - key: the API key, if the server has one
  /// - Throws: `ClientError` if the address is not one of HTTP
  public init(url: String, key: String?) throws(ClientError) {
    var text = url.contains("://") ? url : "http://" + url
    while text.hasSuffix("/") { text.removeLast() }
    if text.hasSuffix("/v1") { text.removeLast(3) }
    guard let parts = URLComponents(string: text), ["http", "https"].contains(parts.scheme?.lowercased()),
      parts.host?.isEmpty == false, parts.query == nil
    else { throw ClientError("'\(url)' is not the address of a server; give one like http://127.0.0.1:8080") }
    address = text
    self.key = key.flatMap { $0.isEmpty ? nil : $0 }
  }

  /// What a request sends.
  public enum Body: Sendable {
    /// Nothing.
    case none
    /// A JSON document.
    case json(JSONValue)
    /// The contents of a file, which are read while they are sent.
    case file(URL, type: String)
  }

  /// Sends a request and returns the whole reply.
  /// - Parameter path: with its query, percent-encoded, from "/"
  /// - Throws: `ClientError` if the server cannot be reached or answers with an error
  public func send(_ method: String, _ path: String, _ body: Body = .none) throws(ClientError) -> Data {
    let received = Mutex(Data())
    try stream(method, path, body) { data in received.withLock { $0 += data } }
    return received.withLock { $0 }
  }

  /// Sends a request and returns the JSON of the reply.
  /// - Throws: as `send`, and if the reply is not JSON
  public func json(_ method: String, _ path: String, _ body: Body = .none) throws(ClientError) -> JSONValue {
    let data = try send(method, path, body)
    guard let value = try? JSONValue.parse(data, subject: path) else {
      throw ClientError("\(address) answered \(path) with something else than JSON; is it a Graft server?")
    }
    return value
  }

  /// Sends a request and gives the parts of a successful reply to `receive`, on another thread, while they arrive.
  /// - Parameter cancellation: ends the request early; then this returns without an error
  /// - Throws: as `send`
  public func stream(
    _ method: String, _ path: String, _ body: Body = .none, cancellation: RequestCancellation? = nil,
    receive: @escaping @Sendable (Data) -> Void
  ) throws(ClientError) {
    guard let url = URL(string: address + path) else { throw ClientError("'\(address + path)' is not an address") }
    var request = URLRequest(url: url, timeoutInterval: Self.patience)
    request.httpMethod = method
    if let key { request.setValue("Bearer \(key)", forHTTPHeaderField: "Authorization") }
    let exchange = Exchange(receive)
    let session = URLSession(configuration: .ephemeral, delegate: exchange, delegateQueue: nil)
    defer { session.finishTasksAndInvalidate() }
    let task: URLSessionTask
    switch body {
    case .none: task = session.dataTask(with: request)
    case .json(let value):
      request.setValue("application/json", forHTTPHeaderField: "Content-Type")
      request.httpBody = Data(value.encoded)
      task = session.dataTask(with: request)
    case .file(let file, let type):
      request.setValue(type, forHTTPHeaderField: "Content-Type")
      task = session.uploadTask(with: request, fromFile: file)
    }
    cancellation?.begin { task.cancel() }
    task.resume()
    let end = exchange.wait()
    cancellation?.end()
    if cancellation?.isCancelled == true { return }
    if let failure = end.failure {
      throw ClientError("\(address) cannot be reached: \(failure); start a server with 'graft serve', or correct --url")
    }
    guard (200..<300).contains(end.status) else { throw Self.error(end.status, end.errorBody, path) }
  }

  /// The error of a reply that is not a success.
  static func error(_ status: Int, _ body: Data, _ path: String) -> ClientError {
    let object = (try? JSONValue.parse(body, subject: "error"))?.object
    let message = object?["error"]?.object?["message"]?.string
    let text = message ?? "the server answered \(path) with the status \(status)"
    let advice = status == 401 ? "; give the server's key with --api-key or GRAFT_API_KEY" : ""
    return ClientError(text + advice, status: status)
  }

  /// A text as a part of a path or a value of a query.
  public static func encoded(_ text: String) -> String {
    let unreserved = CharacterSet(charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
    return text.addingPercentEncoding(withAllowedCharacters: unreserved) ?? text
  }
}

/// Ends a request from another thread, as Ctrl-C does.
public final class RequestCancellation: Sendable {
  private let state = Mutex<(cancel: (@Sendable () -> Void)?, isCancelled: Bool)>((nil, false))

  /// A cancellation for one request at a time.
  public init() {}

  /// Whether the last request was ended.
  public var isCancelled: Bool { state.withLock { $0.isCancelled } }

  /// Ends the request that runs.
  /// - Returns: false if none runs
  public func cancel() -> Bool {
    let cancel = state.withLock { state in
      if state.cancel != nil { state.isCancelled = true }
      return state.cancel
    }
    cancel?()
    return cancel != nil
  }

  func begin(_ cancel: @escaping @Sendable () -> Void) { state.withLock { $0 = (cancel, false) } }
  func end() { state.withLock { $0.cancel = nil } }
}

/// One request under way: receives URLSession's calls, on its thread.
private final class Exchange: NSObject, URLSessionDataDelegate {
  struct End {
    var status = 0
    var errorBody = Data()
    var failure: String?
  }

  private let receive: @Sendable (Data) -> Void
  private let end = Mutex(End())
  private let ended = DispatchSemaphore(value: 0)
  /// The maximum bytes of an error's body that are kept.
  private static let errorLimit = 1 << 20

  init(_ receive: @escaping @Sendable (Data) -> Void) { self.receive = receive }

  func wait() -> End {
    ended.wait()
    return end.withLock { $0 }
  }

  func urlSession(
    _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
    completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
  ) {
    end.withLock { $0.status = (response as? HTTPURLResponse)?.statusCode ?? 0 }
    completionHandler(.allow)
  }

  func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
    let isError = end.withLock { end in
      if (200..<300).contains(end.status) { return false }
      if end.errorBody.count < Self.errorLimit { end.errorBody += data }
      return true
    }
    if !isError { receive(data) }
  }

  func urlSession(
    _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
    newRequest request: URLRequest, completionHandler: @escaping (URLRequest?) -> Void
  ) { completionHandler(nil) }

  func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
    if let error {
      end.withLock { end in
        switch (error as? URLError)?.code {
        case .cannotConnectToHost: end.failure = "nothing listens there"
        case .cannotFindHost: end.failure = "there is no such host"
        case .timedOut: end.failure = "no answer in time"
        case .networkConnectionLost: end.failure = "the connection was lost"
        default: end.failure = error.localizedDescription
        }
      }
    }
    ended.signal()
  }
}
