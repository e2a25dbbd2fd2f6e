import Synchronization

/// What the engine counts; written by its thread once a pass, read by whoever shows it.
final class EngineMetrics: Sendable {
  /// How a request ended.
  enum Outcome: String, CaseIterable {
    case stop, length, cancelled, timeout, rejected, failed
  }

  /// What is counted for each label: an adapter's name as requests gave it.
  struct Counts {
    var promptTokens = 0
    var generatedTokens = 0
    var waiting = 0
    /// By `Outcome.allCases`.
    var requests = [Int](repeating: 0, count: Outcome.allCases.count)
  }

  struct State {
    /// Labels beyond `EngineMetrics.maxLabels` are counted as one.
    fileprivate(set) var labels: [String] = []
    var counts: [Counts] = []
    fileprivate var indices: [String: Int] = [:]
    var running = 0
    var preemptions = 0
    var steps = 0
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

    /// Where a label is counted.
    mutating func index(of label: String) -> Int {
      if let index = indices[label] { return index }
      let name = labels.count < EngineMetrics.maxLabels - 1 ? label : EngineMetrics.otherLabel
      if let index = indices[name] { return index }
      indices[name] = labels.count
      labels.append(name)
      counts.append(Counts())
      return labels.count - 1
    }

    mutating func end(_ label: Int, _ outcome: Outcome) {
      if let place = Outcome.allCases.firstIndex(of: outcome) { counts[label].requests[place] += 1 }
    }
  }

  /// Labels that are counted apart, `otherLabel` included.
  static let maxLabels = 100
  static let otherLabel = "(other)"

  private let state = Mutex(State())

  func update<Value>(_ body: (inout sending State) -> sending Value) -> Value { state.withLock(body) }

  var snapshot: State { state.withLock { $0 } }
}

/// Observations by size, as Prometheus counts them: each bucket holds those up to its bound.
struct Histogram: Sendable {
  let bounds: [Double]
  /// One for each bound, not cumulative, and one for what is beyond the last.
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
