import Kernels

/// Decides what the engine does next. A value without clock or I/O: the same calls give the same answers.
///
/// Waiting requests are admitted in `FairQueue`'s order, those first that were preempted. A pass takes one row of every
/// running request that decodes, and chunks of prompts up to a budget of rows. Blocks of the key-value cache are taken
/// as they are needed; when they run out, the request that was admitted last is preempted, so the one that was admitted
/// first always goes on.
///
/// Of running prompts that begin alike one computes the beginning in the turns of all. The others take over its blocks
/// as they are done; they wait only in passes that bring it on, so if it ends, the next of them takes its place.
///
/// Slices of training fill the time when nothing runs. Between passes they come only if training would otherwise get
/// less than its share of the time, counted over the last seconds, so that requests which leave time over are not
/// slowed down.
struct Scheduler {
  struct Limits: Equatable {
    /// Most rows of one pass; at least 1.
    var rowBudget: Int
    /// Most requests that run at once; at least 1.
    var running: Int
    /// Most rows whose logits are wanted at once; at least 1.
    var logitRows: Int
    /// What a token should take at most while requests decode, so that a long prompt does not stall them.
    var stepTarget: Duration?
    /// Training's share of the time while requests leave none over.
    var trainingShare = 0.1
  }

  struct Slice: Equatable {
    var id: GenerationID
    /// Positions to compute: a chunk of the tokens, or the one being decoded.
    var positions: Range<Int>
  }

  enum Action: Equatable {
    /// The request runs from now on; whoever asked calls `found` with what the cache already holds of it.
    case admit(GenerationID)
    /// The request waits again, without any block.
    case preempt(GenerationID)
    /// The request's time is over; whoever asked removes it.
    case expire(GenerationID)
    /// One forward pass, to be computed before the next question; whoever asked removes what it ends.
    case step([Slice])
    /// One slice of training, reported by `trained` before the next question.
    case train
    case idle
  }

  /// What the scheduler is told of a request.
  struct Submission {
    var id: GenerationID
    var stream: StreamKey
    var promptLength: Int
    /// Every row of the prompt needs its logits.
    var scoresPrompt = false
    /// Requests with the same prompt, of which the first computes it while the others wait.
    var group: UInt64?
    var deadline: Duration?
  }

  struct Entry {
    var id: GenerationID
    var stream: FairQueue.StreamIndex
    var promptLength: Int
    var scoresPrompt: Bool
    var group: UInt64?
    var deadline: Duration?
    /// Tokens that are known, or will be when the pass that was handed out is done.
    var length: Int
    /// Of those, the ones whose keys and values are computed, or will be then.
    var computed = 0
    /// Blocks of the cache that the request holds.
    var blocks = 0
    /// When it was first admitted, among all.
    var admission: UInt64 = 0
    /// The pass that last had a row of it.
    var lastPass: UInt64 = 0

    var pending: Int { length - computed }
    var totalBlocks: Int { (length + keyValueBlockLength - 1) / keyValueBlockLength }
  }

  private struct Group {
    var leader: GenerationID
    var followers: [GenerationID] = []
  }

  let limits: Limits
  private(set) var queue = FairQueue()
  /// In the order of their first admission.
  private(set) var running: [Entry] = []
  /// In the order of their first admission, too.
  private(set) var preempted: [Entry] = []
  private var waiting: [GenerationID: Entry] = [:]
  private var groups: [UInt64: Group] = [:]
  private var admissions: UInt64 = 0
  private var passes: UInt64 = 0
  /// The admission of the last that had its turn while more decoded than fit into a pass.
  private var lastTurn: UInt64 = 0
  private var earliestDeadline: Duration?
  /// Seconds that a row of a pass with prompts takes, as far as is known.
  private var secondsPerRow: Double?

  /// There is training to do.
  var hasTraining = false
  /// Seconds that training is short of its share, or less than 0 if it had more.
  private var trainingDebt = 0.0
  /// Training that was had this many seconds ago counts no more.
  private static let trainingWindow = 10.0

  init(limits: Limits) { self.limits = limits }

  /// Requests that have not run yet, those behind a group's leader included.
  var waitingCount: Int { waiting.count }
  var runningCount: Int { running.count }
  /// Those that run and have more than their last token to compute.
  var prompts: [GenerationID] { running.lazy.filter { $0.pending > 1 }.map(\.id) }
  func isRunning(_ id: GenerationID) -> Bool { running.contains { $0.id == id } }
  var isEmpty: Bool { waiting.isEmpty && running.isEmpty && preempted.isEmpty }

  // MARK: what happens

  /// - Parameter now: on the clock of `next`
  mutating func enqueue(_ request: Submission, now: Duration) {
    let stream = queue.open(request.stream, now: now)
    waiting[request.id] = Entry(
      id: request.id, stream: stream, promptLength: request.promptLength, scoresPrompt: request.scoresPrompt,
      group: request.group, deadline: request.deadline, length: request.promptLength)
    if let deadline = request.deadline { earliestDeadline = min(earliestDeadline ?? deadline, deadline) }
    guard let group = request.group else { return queue.wait(request.id, in: stream) }
    if groups[group] == nil {
      groups[group] = Group(leader: request.id)
      queue.wait(request.id, in: stream)
    } else {
      groups[group]?.followers.append(request.id)
    }
  }

  /// What the cache holds of a request that was just admitted, or that left its turn to one that begins alike.
  mutating func found(_ id: GenerationID, computed: Int, blocks: Int) {
    guard let index = running.lastIndex(where: { $0.id == id }) else { return }
    running[index].computed = computed
    running[index].blocks = blocks
  }

  /// Ends a request, whatever it does.
  /// - Parameter now: on the clock of `next`
  mutating func remove(_ id: GenerationID, now: Duration) {
    let entry: Entry
    if let index = running.firstIndex(where: { $0.id == id }) {
      entry = running.remove(at: index)
    } else if let found = waiting.removeValue(forKey: id) {
      queue.remove(id)
      entry = found
    } else if let index = preempted.firstIndex(where: { $0.id == id }) {
      entry = preempted.remove(at: index)
    } else {
      return
    }
    queue.close(entry.stream, now: now)
    if let group = entry.group { leave(group, id) }
  }

  /// How long a pass took. It decides how much of a prompt goes beside requests that decode.
  mutating func completed(rows: Int, in time: Duration) {
    let due = limits.trainingShare * (time / .seconds(1))
    // Debts are not saved up: they would be a pause later.
    if hasTraining { trainingDebt = min(trainingDebt + due, max(2 * due, 0.005)) }
    guard rows >= Self.leastChunk else { return }
    let seconds = time / .seconds(1) / Double(rows)
    secondsPerRow = secondsPerRow.map { $0 * 0.8 + seconds * 0.2 } ?? seconds
  }

  /// How long a slice of training took.
  mutating func trained(for time: Duration) {
    let seconds = time / .seconds(1)
    let share = limits.trainingShare
    trainingDebt = max(trainingDebt - (1 - share) * seconds, -share * Self.trainingWindow)
  }

  // MARK: what is next

  /// - Parameters:
  ///   - now: on any clock that deadlines are given by
  ///   - freeBlocks: blocks of the cache that a request can have
  ///   - shared: blocks of a waiting request's tokens that others hold, so that it need not take them
  ///   - common: how many of the first request's tokens could be taken over from the second, once they are computed
  mutating func next(
    now: Duration, freeBlocks: Int, shared: (GenerationID) -> Int = { _ in 0 },
    common: (GenerationID, GenerationID) -> Int = { _, _ in 0 }
  ) -> Action {
    if let earliest = earliestDeadline, earliest <= now, let id = expired(now) { return .expire(id) }
    if let id = admit(freeBlocks, shared) { return .admit(id) }
    if running.isEmpty { return hasTraining ? .train : .idle }
    if hasTraining, trainingDebt > 0 { return .train }
    return plan(freeBlocks, common)
  }

  /// A request past its deadline; without one, the next deadline is looked up.
  private mutating func expired(_ now: Duration) -> GenerationID? {
    var first: (deadline: Duration, id: GenerationID)?
    for entry in [running, preempted, Array(waiting.values)].joined() {
      guard let deadline = entry.deadline else { continue }
      if let first, (first.deadline, first.id.value) < (deadline, entry.id.value) { continue }
      first = (deadline, entry.id)
    }
    earliestDeadline = first?.deadline
    return first.flatMap { $0.deadline <= now ? $0.id : nil }
  }

  private mutating func admit(_ freeBlocks: Int, _ shared: (GenerationID) -> Int) -> GenerationID? {
    guard running.count < limits.running, !(preempted.isEmpty && queue.count == 0) else { return nil }
    var entry: Entry
    if let first = preempted.first {
      entry = first
    } else {
      let backlog = backlog()
      guard let id = queue.next(where: { mayStart(backlog[$0]) }), let next = waiting[id] else { return nil }
      entry = next
    }
    if !running.isEmpty {
      // What prompts will need is set aside, and a block for each that runs, lest what is admitted is soon preempted.
      var needed = running.count + entry.totalBlocks
      for other in running where other.pending > 1 { needed += max(other.totalBlocks - other.blocks, 0) }
      guard needed <= freeBlocks || needed - shared(entry.id) <= freeBlocks else { return nil }
    }
    if entry.admission == 0 {
      waiting[entry.id] = nil
      queue.remove(entry.id)
      admissions += 1
      entry.admission = admissions
    } else {
      preempted.removeFirst()
    }
    running.insert(entry, at: running.firstIndex { $0.admission > entry.admission } ?? running.count)
    return entry.id
  }

  private struct Backlog {
    var prompts = 0
    var rows = 0
  }

  /// What streams have of prompts that are being computed.
  private func backlog() -> [FairQueue.StreamIndex: Backlog] {
    var backlog: [FairQueue.StreamIndex: Backlog] = [:]
    for entry in running where entry.pending > 1 {
      backlog[entry.stream, default: Backlog()].prompts += 1
      backlog[entry.stream, default: Backlog()].rows += entry.pending
    }
    return backlog
  }

  /// A stream starts no more prompts than can be worked on: those that others send meanwhile come before.
  private func mayStart(_ backlog: Backlog?) -> Bool {
    guard let backlog else { return true }
    return backlog.prompts < 4 || backlog.rows < limits.rowBudget
  }

  private mutating func leave(_ group: UInt64, _ id: GenerationID) {
    guard var members = groups[group] else { return }
    if members.leader != id {
      members.followers.removeAll { $0 == id }
    } else if members.followers.isEmpty {
      groups[group] = nil
      return
    } else {
      members.leader = members.followers.removeFirst()
      start(members.leader)
    }
    groups[group] = members
  }

  /// The group's prompt is computed.
  private mutating func dissolve(_ group: UInt64, _ id: GenerationID) {
    guard let members = groups[group], members.leader == id else { return }
    groups[group] = nil
    for follower in members.followers { start(follower) }
  }

  private mutating func start(_ id: GenerationID) {
    if let entry = waiting[id] { queue.wait(id, in: entry.stream) }
  }

  // MARK: a pass

  /// The least part of a prompt that goes into a pass beside requests that decode.
  private static let leastChunk = 16

  private mutating func plan(_ freeBlocks: Int, _ common: (GenerationID, GenerationID) -> Int) -> Action {
    var (rows, turn) = share(common)
    var left = freeBlocks
    for index in running.indices where rows[index] > 0 {
      let entry = running[index]
      let room = (entry.blocks + left) * keyValueBlockLength - entry.computed
      guard room > 0 else { return preempt() }
      rows[index] = min(rows[index], room)
      let blocks = (entry.computed + rows[index] + keyValueBlockLength - 1) / keyValueBlockLength
      left -= max(blocks - entry.blocks, 0)
    }
    passes += 1
    lastTurn = turn
    var slices: [Slice] = []
    slices.reserveCapacity(running.count)
    for index in running.indices where rows[index] > 0 { slices.append(take(index, rows[index])) }
    return .step(slices)
  }

  private mutating func take(_ index: Int, _ count: Int) -> Slice {
    let first = running[index].computed
    let positions = first..<first + count
    running[index].computed = positions.upperBound
    running[index].blocks = max(
      running[index].blocks, (positions.upperBound + keyValueBlockLength - 1) / keyValueBlockLength)
    running[index].lastPass = passes
    // The last token's logits give one more.
    if positions.upperBound == running[index].length { running[index].length += 1 }
    queue.charge(running[index].stream, rows: count)
    if let group = running[index].group, positions.upperBound >= running[index].promptLength {
      running[index].group = nil
      dissolve(group, running[index].id)
    }
    return Slice(id: running[index].id, positions: positions)
  }

  private mutating func preempt() -> Action {
    guard var entry = running.popLast() else { return .idle }
    (entry.computed, entry.blocks) = (0, 0)
    preempted.insert(entry, at: preempted.firstIndex { $0.admission > entry.admission } ?? preempted.count)
    return .preempt(entry.id)
  }

  /// How many rows each running request gets, if there are blocks enough, and whose turn was the last.
  private func share(_ common: (GenerationID, GenerationID) -> Int) -> (rows: [Int], turn: UInt64) {
    var rows = [Int](repeating: 0, count: running.count)
    var (decoders, prompts): ([Int], [Int]) = ([], [])
    for index in running.indices {
      if running[index].pending == 1 { decoders.append(index) } else { prompts.append(index) }
    }
    var logitRows = limits.logitRows
    var budget = limits.rowBudget
    // Prompts keep an eighth of the pass, at least one row, however many decode.
    let most = min(budget, logitRows)
    let kept = prompts.isEmpty || most == 1 ? 0 : max(most / 8, 1)
    // With one row a pass, prompts and decoders take turns.
    if most == 1, !decoders.isEmpty, let prompt = prompts.first {
      if running[prompt].lastPass < passes { decoders = [] } else { prompts = [] }
    }
    var turn = lastTurn
    if decoders.count > most - kept {
      // In a circle.
      let first = decoders.firstIndex { running[$0].admission > lastTurn } ?? 0
      decoders = Array((decoders[first...] + decoders[..<first]).prefix(most - kept))
      if let last = decoders.last { turn = running[last].admission }
    }
    for index in decoders { rows[index] = 1 }
    budget -= decoders.count
    logitRows -= decoders.count
    guard let oldest = prompts.first else { return (rows, turn) }
    if !decoders.isEmpty, let target = limits.stepTarget, let secondsPerRow {
      // What comes between passes counts too.
      let share = hasTraining ? limits.trainingShare : 0
      let affordable = min(target / .seconds(1) * (1 - share) / secondsPerRow, Double(limits.rowBudget))
      budget = min(budget, max(Int(affordable) - decoders.count, Self.leastChunk))
    }
    // The oldest prompt always goes on; beside it those go first whose client and adapters have had the least, and of
    // these the shortest.
    give(max(budget / 4, 1), to: oldest, &rows, &budget, &logitRows)
    let services = prompts.map { queue.service(running[$0].stream) }
    let order = prompts.indices.sorted { a, b in
      let (first, second) = (running[prompts[a]], running[prompts[b]])
      return (services[a].client, services[a].stream, first.pending, first.admission)
        < (services[b].client, services[b].stream, second.pending, second.admission)
    }
    for place in order {
      let prompt = prompts[place]
      if let (leader, alike) = leader(of: prompt, among: prompts, rows, common) {
        give(alike - running[leader].computed - rows[leader], to: leader, &rows, &budget, &logitRows)
      } else {
        give(budget, to: prompt, &rows, &budget, &logitRows)
      }
    }
    return (rows, turn)
  }

  /// One with rows in this pass that computes the block which `prompt` needs next, and how far they are alike.
  private func leader(
    of prompt: Int, among prompts: [Int], _ rows: [Int], _ common: (GenerationID, GenerationID) -> Int
  ) -> (index: Int, alike: Int)? {
    let first = running[prompt].computed / keyValueBlockLength * keyValueBlockLength
    guard rows[prompt] == 0 else { return nil }
    for other in prompts where rows[other] > 0 && running[other].computed >= first {
      let alike = common(running[prompt].id, running[other].id)
      if alike >= first + keyValueBlockLength { return (other, alike) }
    }
    return nil
  }

  private func give(_ most: Int, to index: Int, _ rows: inout [Int], _ budget: inout Int, _ logitRows: inout Int) {
    let entry = running[index]
    var count = min(entry.pending - rows[index], most, budget)
    let scores = entry.scoresPrompt && entry.computed < entry.promptLength
    if scores || rows[index] == 0 { count = min(count, scores ? logitRows : logitRows > 0 ? count : 0) }
    guard count > 0 else { return }
    logitRows -= scores ? count : rows[index] == 0 ? 1 : 0
    rows[index] += count
    budget -= count
  }
}
