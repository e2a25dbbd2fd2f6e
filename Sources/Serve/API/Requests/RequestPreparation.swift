import Formats
import Model

/// The threads that parse, render and tokenise requests' bodies. A long prompt or an expensive chat template therefore
/// does not delay the event loop, which sends the other clients' tokens.
final class RequestPreparation: Sendable {
  private let pool: WorkerPool
  /// Large bodies have their own thread, so that short requests do not wait for them.
  private let largePool: WorkerPool
  /// Maximum requests that wait for a thread.
  let capacity: Int

  /// - Parameter capacity: maximum requests that wait for a thread
  init(threads: Int = 2, capacity: Int = 256) {
    self.capacity = capacity
    pool = WorkerPool(label: "preparation", threads: threads, capacity: capacity)
    largePool = WorkerPool(label: "large bodies", threads: 1, capacity: capacity)
  }

  /// Calls `make` on one of the threads, then `then` with its value on the event loop. If either throws, the error is
  /// the answer. If too many requests wait for a thread, the answer is a 503. The work is dropped when the client
  /// leaves.
  func run<Value: Sendable>(
    for exchange: HTTPExchange, isLarge: Bool, _ make: @escaping @Sendable (Abandonment) throws(APIError) -> Value,
    then: @escaping (Value) throws(APIError) -> Void
  ) {
    let abandonment = Abandonment()
    exchange.onClose { abandonment.set() }
    let then = LoopBound(on: exchange.loop, then)
    let isTaken = (isLarge ? largePool : pool).async {
      guard !abandonment.isSet else { return }
      let result = Result { () throws(APIError) in try make(abandonment) }
      exchange.loop.execute {
        guard !exchange.isClosed else { return }
        do throws(APIError) { try then.value(try result.get()) } catch { exchange.respond(error) }
      }
    }
    guard !isTaken else { return }
    var error = APIError.plain(
      status: 503, message: "\(capacity) requests wait to be read already; try again in a moment")
    error.retryAfter = 1
    exchange.respond(error)
  }
}

extension MemoryShare {
  /// Counts bytes until the result is released.
  /// - Throws: `APIError`, 503, if they do not fit
  func hold(_ bytes: Int) throws(APIError) -> HeldMemory {
    if let held = holdIfFree(bytes) { return held }
    var error = APIError.plain(
      status: 503, message: "the bodies and conversations of other requests fill the memory for them; try again")
    error.retryAfter = 1
    throw error
  }
}

extension HTTPExchange {
  /// Bodies of up to so many bytes are parsed on the loop if `isCheap`.
  private static var shortBody: Int { 32 << 10 }

  /// Reads a JSON object, makes a value from it, and calls `then` with the value on the loop. If either throws, the
  /// error is the answer.
  /// - Parameters:
  ///   - isCheap: `make` takes no longer than parsing, so that it can run on the loop if the body is short
  ///   - make: checks the fields; called on the loop or on `preparation`'s threads
  func collectJSON<Value: Sendable>(
    _ limits: BodyLimits, _ preparation: RequestPreparation, isCheap: Bool = false,
    make: @escaping @Sendable (RequestFields, Abandonment) throws(APIError) -> Value,
    then: @escaping (Value) throws(APIError) -> Void
  ) {
    if let error = unsupportedBody() { return respond(error) }
    collectBody(limit: limits.bytes) { [self] result in
      switch result {
      case .success(let body):
        guard !isCheap || body.bytes.count > Self.shortBody else {
          do throws(APIError) { try then(try make(try RequestFields(body.bytes, limits.json), Abandonment())) } catch {
            respond(error)
          }
          return
        }
        preparation.run(for: self, isLarge: body.bytes.count > Self.shortBody) { (abandonment) throws(APIError) in
          // The body is held until `make` returns. What is parsed from it takes about as much memory, but only the body
          // is counted.
          defer { withExtendedLifetime(body) {} }
          return try make(try RequestFields(body.bytes, limits.json), abandonment)
        } then: { (value) throws(APIError) in
          try then(value)
        }
      case .failure(.tooLarge(let limit)):
        respond(.plain(status: 413, message: "The request body is over \(limit) bytes"))
      case .failure(.malformed), .failure(.timedOut), .failure(.disconnected), .failure(.outOfMemory):
        break  // answered already, or there is nobody to be answered
      }
    }
  }

  /// Why a body is not accepted as JSON. A web page can send text/plain to any server, so that is not accepted. curl's
  /// default type is that of a form; it is accepted without an `Origin`, which browsers send.
  private func unsupportedBody() -> APIError? {
    if let coding = request.headers["content-encoding"], !equalIgnoringCase(coding, "identity") {
      return .plain(status: 415, message: "The content encoding '\(coding.excerpt(40))' is not supported")
    }
    guard let value = request.headers["content-type"] else { return nil }
    let type = trimmedOptionalSpace(value.split(separator: ";").first.map(String.init) ?? "").lowercased()
    if type.isEmpty || type == "application/json" { return nil }
    if type == "application/x-www-form-urlencoded", request.headers["origin"] == nil { return nil }
    return .plain(
      status: 415, message: "The content type '\(type.excerpt(80))' is not supported; send application/json")
  }
}
