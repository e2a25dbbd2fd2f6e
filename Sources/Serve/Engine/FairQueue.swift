import Model

/// Whose request it is and which weights it wants; requests of one stream wait in the order of their arrival.
struct StreamKey: Hashable {
  var client: String
  var adapters: PrefixKey
}

/// Waiting requests in one queue for each client and its adapters, and how much of the machine each has had.
///
/// The next is of the client that had the least, and of that client's adapters those that had the least. One that comes
/// back after a pause begins where the least served of the others are, so that idleness earns no credit (the virtual
/// token counters of Sheng et al., "Fairness in Serving Large Language Models", 2024).
struct FairQueue {
  /// Names a stream while any of its requests waits or runs.
  typealias StreamIndex = Int

  private struct Account {
    /// Rows computed.
    var service = 0
    /// Requests that wait or run; without any, the account is forgotten.
    var live = 0
  }

  private struct Stream {
    var key: StreamKey
    var client: Int
    var account = Account()
    /// In the order of arrival.
    var waiting: [GenerationID] = []
  }

  private var clients: [(name: String, account: Account)?] = []
  private var clientIndices: [String: Int] = [:]
  private var streams: [Stream?] = []
  private var streamIndices: [StreamKey: StreamIndex] = [:]
  private var streamOfWaiting: [GenerationID: StreamIndex] = [:]

  /// How many wait.
  var count: Int { streamOfWaiting.count }
  /// How many streams and clients are remembered.
  var accountCount: Int { streamIndices.count + clientIndices.count }

  func contains(_ id: GenerationID) -> Bool { streamOfWaiting[id] != nil }

  /// Counts a request in, which does not wait yet.
  mutating func open(_ key: StreamKey) -> StreamIndex {
    let client = clientIndices[key.client] ?? addClient(key.client)
    let stream = streamIndices[key] ?? addStream(key, client)
    clients[client]?.account.live += 1
    streams[stream]?.account.live += 1
    return stream
  }

  /// A request has ended, or was taken out.
  mutating func close(_ index: StreamIndex) {
    guard let stream = streams[index], let client = clients[stream.client] else { return }
    clients[stream.client]?.account.live -= 1
    streams[index]?.account.live -= 1
    if stream.account.live == 1 {
      streams[index] = nil
      streamIndices[stream.key] = nil
    }
    if client.account.live == 1 {
      clients[stream.client] = nil
      clientIndices[client.name] = nil
    }
  }

  /// Rows were computed for a request of the stream.
  mutating func charge(_ index: StreamIndex, rows: Int) {
    guard let client = streams[index]?.client else { return }
    streams[index]?.account.service += rows
    clients[client]?.account.service += rows
  }

  /// What client and stream have had; the less, the sooner is their turn.
  func service(_ index: StreamIndex) -> (client: Int, stream: Int) {
    guard let stream = streams[index], let client = clients[stream.client] else { return (0, 0) }
    return (client.account.service, stream.account.service)
  }

  mutating func wait(_ id: GenerationID, in index: StreamIndex) {
    guard var waiting = streams[index]?.waiting else { return }
    streams[index]?.waiting = []
    let place = waiting.lastIndex { $0.value < id.value }.map { $0 + 1 } ?? 0
    waiting.insert(id, at: place)
    streams[index]?.waiting = waiting
    streamOfWaiting[id] = index
  }

  /// The request whose turn it is, among streams that may go on.
  func next(where mayGoOn: (StreamIndex) -> Bool) -> GenerationID? {
    var best: (client: Int, stream: Int, id: GenerationID)?
    for index in streams.indices {
      guard let id = streams[index]?.waiting.first else { continue }
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
    streams[index]?.waiting.removeAll { $0 == id }
    return index
  }

  // MARK: accounts

  private mutating func addClient(_ name: String) -> Int {
    let least = clients.lazy.compactMap { $0?.account.service }.min() ?? 0
    let index = Self.place(in: &clients, (name, Account(service: least)))
    clientIndices[name] = index
    return index
  }

  private mutating func addStream(_ key: StreamKey, _ client: Int) -> StreamIndex {
    let least = streams.lazy.compactMap { $0?.client == client ? $0?.account.service : nil }.min() ?? 0
    let index = Self.place(in: &streams, Stream(key: key, client: client, account: Account(service: least)))
    streamIndices[key] = index
    return index
  }

  private static func place<Value>(in list: inout [Value?], _ value: Value) -> Int {
    if let free = list.firstIndex(where: { $0 == nil }) {
      list[free] = value
      return free
    }
    list.append(value)
    return list.count - 1
  }
}
