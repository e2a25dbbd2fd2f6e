import Model

/// Whose request it is and which weights it wants; requests of one stream wait in the order of their arrival.
struct StreamKey: Hashable {
  var client: ClientIdentity
  var adapters: PrefixKey
}

/// Waiting requests in one queue for each client and its adapters, and how much of the machine each has had.
///
/// The next is of the client that had the least, and of that client's adapters those that had the least.
struct FairQueue {
  /// Names a stream while any of its requests waits or runs.
  typealias StreamIndex = Int

  private var clients = AccountBook<ClientIdentity>()
  private var streams = AccountBook<StreamKey>()
  /// By stream: its client's account, and the requests that wait in the order of arrival.
  private var clientOfStream: [Int] = []
  private var waiting: [[GenerationID]] = []
  private var streamOfWaiting: [GenerationID: StreamIndex] = [:]

  /// How many wait.
  var count: Int { streamOfWaiting.count }
  /// How many streams and clients have requests.
  var accountCount: Int { streams.activeCount + clients.activeCount }

  func contains(_ id: GenerationID) -> Bool { streamOfWaiting[id] != nil }

  /// Counts a request in, which does not wait yet.
  mutating func open(_ key: StreamKey, now: Duration) -> StreamIndex {
    let client = clients.open(key.client, now: now) { _ in true }
    let stream = streams.open(key, now: now) { $0.client == key.client }
    while waiting.count <= stream {
      waiting.append([])
      clientOfStream.append(client)
    }
    clientOfStream[stream] = client
    return stream
  }

  /// A request has ended, or was taken out.
  mutating func close(_ index: StreamIndex, now: Duration) {
    _ = clients.close(clientOfStream[index], now: now)
    _ = streams.close(index, now: now)
  }

  /// Rows were computed for a request of the stream.
  mutating func charge(_ index: StreamIndex, rows: Int) {
    streams.charge(index, rows: rows)
    clients.charge(clientOfStream[index], rows: rows)
  }

  /// What client and stream have had; the less, the sooner is their turn.
  func service(_ index: StreamIndex) -> (client: Int, stream: Int) {
    (clients.service(clientOfStream[index]), streams.service(index))
  }

  mutating func wait(_ id: GenerationID, in index: StreamIndex) {
    let place = waiting[index].lastIndex { $0.value < id.value }.map { $0 + 1 } ?? 0
    waiting[index].insert(id, at: place)
    streamOfWaiting[id] = index
  }

  /// The request whose turn it is, among streams that may go on.
  func next(where mayGoOn: (StreamIndex) -> Bool) -> GenerationID? {
    var best: (client: Int, stream: Int, id: GenerationID)?
    for index in waiting.indices {
      guard let id = waiting[index].first else { continue }
      let (client, stream) = service(index)
      if let best, (best.client, best.stream, best.id.value) <= (client, stream, id.value) { continue }
      if mayGoOn(index) { best = (client, stream, id) }
    }
    return best?.id
  }

  /// Takes a request out of its queue; it is still counted in.
  @discardableResult
  mutating func remove(_ id: GenerationID) -> StreamIndex? {
    guard let index = streamOfWaiting.removeValue(forKey: id) else { return nil }
    waiting[index].removeAll { $0 == id }
    return index
  }
}
