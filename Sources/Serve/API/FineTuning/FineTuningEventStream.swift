import Dispatch
import Formats

/// A job's events as server-sent events: first the past ones, then each new one until the job is over. Used on the
/// exchange's loop only; pages of events are read on the service's queue.
final class FineTuningEventStream {
  private let id: String
  private let service: FineTuningService
  private let exchange: HTTPExchange
  /// The last event that was sent.
  private var cursor: String?
  /// Identifies this stream among the job's observers.
  private var observation: UInt64?
  private var isReading = false
  /// Whether an event was recorded while a page was being read or the client was slow.
  private var hasNews = false
  private var hasBegun = false
  /// Whether the client must read before more is written.
  private var isBlocked = false
  private static let pageSize = 100

  init(_ id: String, _ service: FineTuningService, _ exchange: HTTPExchange, after: String?) {
    self.id = id
    self.service = service
    self.exchange = exchange
    cursor = after
  }

  /// Starts to observe the job, and answers with its events.
  func start() {
    let (loop, stream) = (exchange.loop, LoopBound(self, on: exchange.loop))
    service.queue.async { [service, id] in
      // This closure keeps the stream alive until `finish` ends the observation.
      let observation = service.observe(id) {
        loop.execute { stream.value.read() }
      }
      loop.execute { stream.value.begin(observation) }
    }
  }

  private func begin(_ observation: UInt64) {
    self.observation = observation
    exchange.onClose { [self] in finish() }
    exchange.onDrain { [self] in
      isBlocked = false
      read()
    }
    read()
  }

  private func finish() {
    guard let observation else { return }
    self.observation = nil
    service.queue.async { [service, id] in service.endObserving(id, observation) }
  }

  private func read() {
    guard observation != nil else { return }
    if isReading || isBlocked {
      hasNews = true
      return
    }
    isReading = true
    hasNews = false
    let after = cursor
    let (loop, stream) = (exchange.loop, LoopBound(self, on: exchange.loop))
    service.queue.async { [service, id] in
      let result = Result {
        let job = try service.job(id)
        let page = try service.database.events(of: id, newestFirst: false, after: after, limit: Self.pageSize)
        return (events: page.elements, isEnd: !page.hasMore && job.status.isOver, hasMore: page.hasMore)
      }
      loop.execute { stream.value.send(result) }
    }
  }

  private func send(_ result: Result<(events: [JSONValue], isEnd: Bool, hasMore: Bool), any Error>) {
    isReading = false
    guard observation != nil else { return }
    guard case .success(let page) = result else {
      if !hasBegun, case .failure(let error) = result { exchange.respond(apiError(error)) } else { exchange.abort() }
      return finish()
    }
    if !hasBegun {
      hasBegun = true
      exchange.startEventStream()
    }
    let bytes = page.events.flatMap(SSEWriter.event)
    if !bytes.isEmpty, !exchange.write(bytes) { isBlocked = true }
    cursor = page.events.last?.object?["id"]?.string ?? cursor
    if page.isEnd {
      exchange.write(SSEWriter.done)
      exchange.end()
      return finish()
    }
    if hasNews || page.hasMore { read() }
  }

  private func apiError(_ error: any Error) -> APIError {
    switch error {
    case let error as FineTuningError: error.apiError
    case is UnknownCursor: .invalid("'after' names no event of this job", param: "after", code: "invalid_value")
    default: APIError(status: 500, type: "server_error", message: "\(error)", param: nil, code: "storage_failed")
    }
  }
}
