import Model
import Synchronization

/// The engine's counters: written by its thread after each pass, read for `GET /metrics`.
final class EngineMetrics: Sendable {
  /// How a request ended: the values of the metrics' label `outcome`.
  enum Outcome: String, CaseIterable {
    case stop, length, cancelled, timeout, rejected, failed
  }

  /// The counters of one label. A label is an adapter's name as requests gave it.
  struct Counts {
    var promptTokens = 0
    var generatedTokens = 0
    var waiting = 0
    /// Ended requests, in the order of `Outcome.allCases`.
    var requests = [Int](repeating: 0, count: Outcome.allCases.count)
  }

  /// All counters.
  struct State {
    /// In the order of `counts`. Labels beyond `EngineMetrics.maxLabels` share one, `otherLabel`.
    fileprivate(set) var labels: [String] = []
    var counts: [Counts] = []
    fileprivate var indices: [String: Int] = [:]
    var running = 0
    var preemptions = 0
    var steps = 0
    /// Tokens of drafts that were computed, and those among them that turned out right.
    var draftTokens = 0
    var acceptedDraftTokens = 0
    var prefixQueries = 0
    var prefixHits = 0
    var prefixHitTokens = 0
    var blocksUsed = 0
    var blocksCached = 0
    var blocksTotal = 0
    var bytesPerBlock = 0
    var evictions = 0
    var trainingSlices = Histogram([0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.1])
    var timeToFirstToken = Histogram([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120])
    var interToken = Histogram([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10])
    var stepSeconds = Histogram([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10])
    var batchRows = Histogram([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])

    /// The index of a label's counters in `counts`.
    mutating func index(of label: String) -> Int {
      if let index = indices[label] { return index }
      let name = labels.count < EngineMetrics.maxLabels - 1 ? label : EngineMetrics.otherLabel
      if let index = indices[name] { return index }
      indices[name] = labels.count
      labels.append(name)
      counts.append(Counts())
      return labels.count - 1
    }

    /// Counts a request's end.
    mutating func end(_ label: Int, _ outcome: Outcome) {
      if let index = Outcome.allCases.firstIndex(of: outcome) { counts[label].requests[index] += 1 }
    }

    /// Copies the cache's figures.
    mutating func record(_ cache: KeyValueCache) {
      blocksTotal = cache.blockCount
      blocksCached = cache.cachedBlockCount
      blocksUsed = cache.blockCount - cache.freeBlockCount
      bytesPerBlock = cache.bytesPerBlock
      evictions = cache.evictions
    }
  }

  /// The maximum number of labels with their own counters, including `otherLabel`.
  static let maxLabels = 100
  static let otherLabel = "(other)"

  private let state = Mutex(State())

  func update<Value>(_ body: (inout sending State) -> sending Value) -> Value { state.withLock(body) }

  var snapshot: State { state.withLock { $0 } }
}

/// Observations by size, as Prometheus counts them: a bucket has those up to its bound.
struct Histogram: Sendable {
  let bounds: [Double]
  /// Observations in each bucket alone; the last bucket has those beyond all bounds.
  private(set) var counts: [Int]
  private(set) var sum = 0.0

  init(_ bounds: [Double]) {
    self.bounds = bounds
    counts = Array(repeating: 0, count: bounds.count + 1)
  }

  var count: Int { counts.reduce(0, +) }

  mutating func observe(_ value: Double) {
    counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
    sum += value
  }
}
