import Kernels
import Model
import Testing

@testable import Serve

/// A scheduler with an engine that computes nothing, a cache that is counted and a clock that is set.
struct SchedulerSimulation {
  struct Request {
    var promptLength: Int
    var maxTokens: Int
    var scores = false
    var client = "a"
    var adapter: UInt64 = 0
    var deadline: Duration?
    /// Positions that its first admission finds in the cache.
    var cached = 0
    /// Requests of one family have as many first tokens in common as the less `alike` of them says.
    var family: Int?
    var alike = 0

    var computed = 0
    var length: Int
    var blocks = 0
    /// Blocks that others hold, too.
    var sharedBlocks = 0

    init(
      _ promptLength: Int, _ maxTokens: Int, scores: Bool = false, client: String = "a", adapter: UInt64 = 0,
      deadline: Duration? = nil, cached: Int = 0, family: Int? = nil, alike: Int = 0
    ) {
      (self.promptLength, self.maxTokens, self.scores) = (promptLength, maxTokens, scores)
      (self.client, self.adapter, self.deadline) = (client, adapter, deadline)
      self.cached = min(cached, promptLength - 1)
      (self.family, self.alike) = (family, alike)
      length = promptLength
    }

    var end: Int { promptLength + max(maxTokens - 1, 0) }
    var isPrompt: Bool { length - computed > 1 }
    var isScoring: Bool { scores && computed < promptLength }
    var stream: StreamKey {
      StreamKey(client: ClientIdentity(address: client), adapters: PrefixKey(.none, group: adapter))
    }

    /// How much of it can come from what another computes.
    func common(_ other: Request) -> Int {
      guard let family, family == other.family, !isScoring else { return 0 }
      return min(alike, other.alike, length - 1)
    }
  }

  let limits: Scheduler.Limits
  let capacity: Int
  var scheduler: Scheduler
  var live: [GenerationID: Request] = [:]
  var running: [GenerationID] = []
  /// In the order of their first admission, those that have ended too.
  var admitted: [GenerationID] = []
  var finished: [GenerationID] = []
  var now = Duration.zero
  var preemptions = 0
  private var next: UInt64 = 0

  init(_ limits: Scheduler.Limits, blocks: Int) {
    self.limits = limits
    capacity = blocks
    scheduler = Scheduler(limits: limits)
  }

  var freeBlocks: Int { capacity - live.values.reduce(0) { $0 + $1.blocks - $1.sharedBlocks } }

  private func common(_ id: GenerationID, _ other: GenerationID) -> Int {
    guard let request = live[id], let other = live[other] else { return 0 }
    return request.common(other)
  }

  @discardableResult mutating func submit(_ request: Request, group: UInt64? = nil) -> GenerationID {
    next += 1
    let id = GenerationID(value: next)
    live[id] = request
    scheduler.enqueue(
      .init(
        id: id, stream: request.stream, promptLength: request.promptLength, scoresPrompt: request.scores,
        group: group, deadline: request.deadline), now: now)
    return id
  }

  mutating func remove(_ id: GenerationID) {
    live[id] = nil
    running.removeAll { $0 == id }
    scheduler.remove(id, now: now)
  }

  /// Acts up to and with one pass, checked; returns its rows of each request.
  @discardableResult mutating func step() -> [GenerationID: Int] {
    while true {
      switch scheduler.next(now: now, freeBlocks: freeBlocks, common: common) {
      case .admit(let id): admit(id)
      case .preempt(let id):
        #expect(admitted.last { running.contains($0) } == id, "only the youngest is preempted")
        #expect(running.count > 1)
        preemptions += 1
        running.removeAll { $0 == id }
        live[id]?.computed = 0
        live[id]?.blocks = 0
        live[id]?.sharedBlocks = 0
      case .expire(let id):
        #expect((live[id]?.deadline).map { $0 <= now } == true)
        finished.append(id)
        remove(id)
      case .train: Issue.record("training without any")
      case .idle:
        #expect(live.isEmpty, "idle with \(live.count) requests")
        return [:]
      case .step(let slices): return compute(slices)
      }
    }
  }

  private mutating func admit(_ id: GenerationID) {
    guard var request = live[id] else {
      Issue.record("a request that is gone was admitted")
      return
    }
    #expect(!running.contains(id))
    running.append(id)
    if !admitted.contains(id) {
      admitted.append(id)
      request.computed = min(request.cached, (freeBlocks * keyValueBlockLength))
      request.blocks = blocks(request.computed)
    }
    live[id] = request
    scheduler.found(id, computed: request.computed, blocks: request.blocks)
    takeOver(id)
    #expect(running.count <= limits.running)
  }

  /// What others with the same beginning have computed in whole blocks is the request's own.
  private mutating func takeOver(_ id: GenerationID) {
    guard var request = live[id] else { return }
    let common = running.filter { $0 != id }.compactMap { live[$0] }.map { min($0.computed, request.common($0)) }
    let blocks = (common.max() ?? 0) / keyValueBlockLength
    guard blocks * keyValueBlockLength > request.computed else { return }
    request.computed = blocks * keyValueBlockLength
    (request.blocks, request.sharedBlocks) = (blocks, blocks)
    live[id] = request
    scheduler.found(id, computed: request.computed, blocks: blocks)
  }

  /// Nobody computes a block that another computes in the same pass.
  private func checkSharing(_ slices: [Scheduler.Slice]) {
    let prompts = slices.filter { live[$0.id].map { $0.family != nil && $0.isPrompt && !$0.isScoring } ?? false }
    for (place, slice) in prompts.enumerated() {
      let block = slice.positions.lowerBound / keyValueBlockLength
      for other in prompts[..<place] where other.positions.lowerBound / keyValueBlockLength == block {
        #expect(common(slice.id, other.id) < (block + 1) * keyValueBlockLength, "block \(block) twice")
      }
    }
  }

  private func blocks(_ positions: Int) -> Int { (positions + keyValueBlockLength - 1) / keyValueBlockLength }

  private mutating func compute(_ slices: [Scheduler.Slice]) -> [GenerationID: Int] {
    #expect(!slices.isEmpty && Set(slices.map(\.id)).count == slices.count)
    checkSharing(slices)
    var (rows, logitRows) = (0, 0)
    for slice in slices {
      guard var request = live[slice.id] else {
        Issue.record("a slice of a request that is gone")
        continue
      }
      #expect(running.contains(slice.id))
      #expect(slice.positions.lowerBound == request.computed && !slice.positions.isEmpty)
      #expect(slice.positions.upperBound <= request.length)
      rows += slice.positions.count
      if request.scores, request.computed < request.promptLength {
        logitRows += slice.positions.count
      } else if slice.positions.upperBound == request.length {
        logitRows += 1
      }
      request.computed = slice.positions.upperBound
      request.blocks = max(request.blocks, blocks(request.computed))
      if request.computed == request.length { request.length += 1 }
      live[slice.id] = request
    }
    #expect(rows <= limits.rowBudget && logitRows <= limits.logitRows)
    #expect(freeBlocks >= 0, "more blocks than there are")
    #expect(scheduler.runningCount == running.count)
    for slice in slices {
      guard let request = live[slice.id], request.computed >= request.end else { continue }
      finished.append(slice.id)
      remove(slice.id)
    }
    let prompts = running.filter { live[$0]?.isPrompt ?? false }
    #expect(scheduler.prompts.sorted { $0.value < $1.value } == prompts.sorted { $0.value < $1.value })
    for id in prompts { takeOver(id) }
    return Dictionary(uniqueKeysWithValues: slices.map { ($0.id, $0.positions.count) })
  }
}
