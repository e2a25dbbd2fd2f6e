import Kernels
import Model
import Testing

@testable import Serve

/// A sequence whose progress is set by a simulation.
final class SimulatedSequence: ScheduledSequence {
  let id: GenerationID
  let request: SchedulerSimulation.Request
  let groupID: UInt64?
  var computed = 0
  var length: Int
  var blockCount = 0
  var draftLength = 0
  var draftRate = 0.0
  /// Blocks that others hold, too.
  var sharedBlocks = 0

  init(id: GenerationID, _ request: SchedulerSimulation.Request, group: UInt64? = nil) {
    (self.id, self.request, groupID) = (id, request, group)
    length = request.promptLength
  }

  var stream: StreamKey {
    var client = ClientIdentity(address: request.client)
    client.isBackground = isBackground
    return StreamKey(client: client, adapters: PrefixKey(.none, group: request.adapter))
  }
  var isBackground: Bool { request.client == "batches" }
  var deadline: Duration? { request.deadline }
  var promptLength: Int { request.promptLength }
  var scoresPrompt: Bool { request.scores }

  var end: Int { promptLength + max(request.maxTokens - 1, 0) }
  var isPrompt: Bool { length - computed > 1 }
  var isScoring: Bool { scoresPrompt && computed < promptLength }

  func reusableTokens(from other: SimulatedSequence) -> Int {
    guard let family = request.family, family == other.request.family, !isScoring else { return 0 }
    return min(request.alike, other.request.alike, length - 1)
  }

  /// Takes in that a pass has computed up to here.
  func advance(to position: Int) {
    computed = position
    blockCount = max(blockCount, Serve.blockCount(covering: position))
    if computed == length { length += 1 }
  }

  func loseBlocks() { (computed, blockCount, sharedBlocks) = (0, 0, 0) }
}

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

    init(
      _ promptLength: Int, _ maxTokens: Int, scores: Bool = false, client: String = "a", adapter: UInt64 = 0,
      deadline: Duration? = nil, cached: Int = 0, family: Int? = nil, alike: Int = 0
    ) {
      (self.promptLength, self.maxTokens, self.scores) = (promptLength, maxTokens, scores)
      (self.client, self.adapter, self.deadline) = (client, adapter, deadline)
      self.cached = min(cached, promptLength - 1)
      (self.family, self.alike) = (family, alike)
    }
  }

  let limits: SchedulerLimits
  let capacity: Int
  var scheduler: Scheduler<SimulatedSequence>
  var live: [GenerationID: SimulatedSequence] = [:]
  var running: [GenerationID] = []
  /// In the order of their first admission, those that have ended too.
  var admitted: [GenerationID] = []
  var finished: [GenerationID] = []
  var now = Duration.zero
  var preemptions = 0
  private var next: UInt64 = 0

  init(_ limits: SchedulerLimits, blocks: Int) {
    self.limits = limits
    capacity = blocks
    scheduler = Scheduler(limits: limits)
  }

  var freeBlocks: Int { capacity - live.values.reduce(0) { $0 + $1.blockCount - $1.sharedBlocks } }

  @discardableResult mutating func submit(_ request: Request, group: UInt64? = nil) -> GenerationID {
    next += 1
    let id = GenerationID(value: next)
    let sequence = SimulatedSequence(id: id, request, group: group)
    live[id] = sequence
    scheduler.enqueue(sequence, now: now)
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
      switch scheduler.next(now: now, freeBlocks: freeBlocks) {
      case .admit(let sequence):
        #expect(!admitted.contains(sequence.id))
        admit(sequence)
      case .resume(let sequence):
        #expect(admitted.contains(sequence.id))
        admit(sequence)
      case .preempt(let sequence):
        let background = running.filter { live[$0]?.isBackground == true }
        let candidates = background.isEmpty ? running : background
        #expect(admitted.last { candidates.contains($0) } == sequence.id, "only the youngest is preempted")
        #expect(running.count > 1 || sequence.isBackground)
        preemptions += 1
        running.removeAll { $0 == sequence.id }
        sequence.loseBlocks()
      case .expire(let sequence):
        #expect((live[sequence.id]?.deadline).map { $0 <= now } == true)
        finished.append(sequence.id)
        remove(sequence.id)
      case .idle:
        #expect(live.isEmpty, "idle with \(live.count) requests")
        return [:]
      case .step(let chunks): return compute(chunks)
      }
    }
  }

  private mutating func admit(_ sequence: SimulatedSequence) {
    guard live[sequence.id] === sequence else {
      Issue.record("a request that is gone was admitted")
      return
    }
    #expect(!running.contains(sequence.id))
    running.append(sequence.id)
    if !admitted.contains(sequence.id) {
      admitted.append(sequence.id)
      sequence.computed = min(sequence.request.cached, (freeBlocks * keyValueBlockLength))
      sequence.blockCount = blockCount(covering: sequence.computed)
    }
    shareBlocks(sequence)
    #expect(running.count <= limits.running)
  }

  /// What others with the same beginning have computed in whole blocks is the request's own.
  private func shareBlocks(_ sequence: SimulatedSequence) {
    let common = running.filter { $0 != sequence.id }.compactMap { live[$0] }.map {
      min($0.computed, sequence.reusableTokens(from: $0))
    }
    let blocks = (common.max() ?? 0) / keyValueBlockLength
    guard blocks * keyValueBlockLength > sequence.computed else { return }
    sequence.computed = blocks * keyValueBlockLength
    (sequence.blockCount, sequence.sharedBlocks) = (blocks, blocks)
  }

  /// Nobody computes a block that another computes in the same pass.
  private func checkSharing(_ chunks: [Scheduler<SimulatedSequence>.Chunk]) {
    let prompts = chunks.filter { $0.sequence.request.family != nil && $0.sequence.isPrompt && !$0.sequence.isScoring }
    for (place, chunk) in prompts.enumerated() {
      let block = chunk.positions.lowerBound / keyValueBlockLength
      for other in prompts[..<place] where other.positions.lowerBound / keyValueBlockLength == block {
        #expect(
          chunk.sequence.reusableTokens(from: other.sequence) < (block + 1) * keyValueBlockLength,
          "block \(block) twice")
      }
    }
  }

  private mutating func compute(_ chunks: [Scheduler<SimulatedSequence>.Chunk]) -> [GenerationID: Int] {
    #expect(!chunks.isEmpty && Set(chunks.map(\.sequence.id)).count == chunks.count)
    checkSharing(chunks)
    var (rows, logitRows) = (0, 0)
    for chunk in chunks {
      let sequence = chunk.sequence
      guard live[sequence.id] === sequence else {
        Issue.record("a chunk of a request that is gone")
        continue
      }
      #expect(running.contains(sequence.id))
      #expect(chunk.positions.lowerBound == sequence.computed && !chunk.positions.isEmpty)
      #expect(chunk.positions.upperBound <= sequence.length)
      rows += chunk.positions.count
      if sequence.isScoring {
        logitRows += chunk.positions.count
      } else if chunk.positions.upperBound == sequence.length {
        logitRows += 1
      }
      sequence.advance(to: chunk.positions.upperBound)
    }
    #expect(rows <= limits.rowBudget && logitRows <= limits.logitRows)
    #expect(freeBlocks >= 0, "more blocks than there are")
    #expect(scheduler.runningCount == running.count)
    for chunk in chunks where chunk.sequence.computed >= chunk.sequence.end {
      guard live[chunk.sequence.id] != nil else { continue }
      finished.append(chunk.sequence.id)
      remove(chunk.sequence.id)
    }
    let prompts = running.filter { live[$0]?.isPrompt ?? false }
    #expect(
      scheduler.prompts.map(\.id).sorted { $0.value < $1.value } == prompts.sorted { $0.value < $1.value })
    for sequence in prompts.compactMap({ live[$0] }) { shareBlocks(sequence) }
    return Dictionary(uniqueKeysWithValues: chunks.map { ($0.sequence.id, $0.positions.count) })
  }
}
