import Model

/// The unit of queueing: one client's requests for the same weights, in the order of their arrival.
struct StreamKey: Hashable {
  var client: ClientIdentity
  var adapters: PrefixKey
}

/// A queue for each stream, and how many rows were computed for each client and each stream.
///
/// The next request belongs to the client with the minimum of rows, and among that client's streams to the one with the
/// minimum.
struct FairQueue {
  /// Identifies a stream while any of its requests waits or runs.
  typealias StreamIndex = Int

  private var clients = AccountBook<ClientIdentity>()
  private var streams = AccountBook<StreamKey>()
  /// For each stream, the index of its client in `clients`.
  private var clientOfStream: [Int] = []
  private var isBackgroundStream: [Bool] = []
  /// For each stream, the requests that wait, in the order of their arrival.
  private var waiting: [[GenerationID]] = []
  private var streamOfWaiting: [GenerationID: StreamIndex] = [:]

  /// Requests that wait.
  var count: Int { streamOfWaiting.count }
  /// Streams and clients that have requests.
  var accountCount: Int { streams.activeCount + clients.activeCount }

  func contains(_ id: GenerationID) -> Bool { streamOfWaiting[id] != nil }

  /// Counts one more request of a stream, which does not wait in the queue yet.
  mutating func open(_ key: StreamKey, now: Duration) -> StreamIndex {
    let client = clients.open(key.client, now: now) { _ in true }
    let stream = streams.open(key, now: now) { $0.client == key.client }
    while waiting.count <= stream {
      waiting.append([])
      clientOfStream.append(client)
      isBackgroundStream.append(false)
    }
    clientOfStream[stream] = client
    isBackgroundStream[stream] = key.client.isBackground
    return stream
  }

  /// Counts one request less of a stream, since it has ended.
  mutating func close(_ index: StreamIndex, now: Duration) {
    _ = clients.close(clientOfStream[index], now: now)
    _ = streams.close(index, now: now)
  }

  /// Adds rows that were computed for a request of the stream.
  mutating func charge(_ index: StreamIndex, rows: Int) {
    streams.charge(index, rows: rows)
    clients.charge(clientOfStream[index], rows: rows)
  }

  /// The rows that were computed for the stream's client and for the stream. Smaller numbers come first.
  func service(_ index: StreamIndex) -> (client: Int, stream: Int) {
    (clients.service(clientOfStream[index]), streams.service(index))
  }

  /// Whether the stream's requests only use the time that others leave.
  func isBackground(_ index: StreamIndex) -> Bool { isBackgroundStream[index] }

  /// Puts a counted request into its stream's queue.
  mutating func wait(_ id: GenerationID, in index: StreamIndex) {
    let position = waiting[index].lastIndex { $0.value < id.value }.map { $0 + 1 } ?? 0
    waiting[index].insert(id, at: position)
    streamOfWaiting[id] = index
  }

  /// The next request, among the streams that `isEligible` accepts.
  func next(where isEligible: (StreamIndex) -> Bool) -> GenerationID? {
    var best: (client: Int, stream: Int, id: GenerationID)?
    for index in waiting.indices {
      guard let id = waiting[index].first else { continue }
      let (client, stream) = service(index)
      if let best, (best.client, best.stream, best.id.value) <= (client, stream, id.value) { continue }
      if isEligible(index) { best = (client, stream, id) }
    }
    return best?.id
  }

  /// Removes a request from its stream's queue. It still counts as a request of the stream.
  @discardableResult
  mutating func remove(_ id: GenerationID) -> StreamIndex? {
    guard let index = streamOfWaiting.removeValue(forKey: id) else { return nil }
    waiting[index].removeAll { $0 == id }
    return index
  }
}
