/// Decides what the engine does next. A value without clock or I/O: the same calls give the same decisions.
///
/// Preempted sequences are resumed first; then waiting ones are admitted in `FairQueue`'s order. A pass has one row for
/// every sequence that decodes, and chunks of prompts up to a budget of rows. Cache blocks are allocated when they are
/// needed. When no block is free, the sequence that was admitted last is preempted, so the one that was admitted first
/// always progresses.
///
/// Of running prompts that begin with the same tokens, one computes the common beginning, with the rows of all. The
/// others share its blocks after each pass. They are only left out of passes that compute their beginning, so if the
/// computing one ends early, the next one continues the work.
///
/// A pass without prompts can have further rows, which compute drafts: tokens that may come next.
///
/// While other sequences run, background sequences only have the rows that they are owed: `backgroundShare` of the others'.
/// One of them is enough to take these rows, so none starts beside another. Those that run keep their blocks meanwhile,
/// until others need these.
struct Scheduler<S: ScheduledSequence> {
  /// A part of a sequence that one pass computes.
  struct Chunk {
    var sequence: S
    /// Positions to compute: some of the prompt's, or the one that is decoded and those of its draft.
    var positions: Range<Int>
  }

  enum Action {
    /// The sequence begins to run. The engine shares the blocks that the cache has of it.
    case admit(S)
    /// The sequence runs again after a preemption. The engine shares the blocks that the cache has of it.
    case resume(S)
    /// The sequence waits again. The engine releases its blocks and resets its progress.
    case preempt(S)
    /// The sequence's deadline has passed. The engine removes it.
    case expire(S)
    /// Compute one forward pass. The engine then gives the sequences their results and removes those that ended.
    case step([Chunk])
    case idle
  }

  /// A sequence, with what only the scheduler knows about it.
  struct Entry {
    let sequence: S
    let stream: FairQueue.StreamIndex
    /// The sequence's number in the order of first admissions; 0 before its own.
    var admission: UInt64 = 0
    /// The last pass in which it had a row.
    var lastPass: UInt64 = 0

    var id: GenerationID { sequence.id }
    var pending: Int { sequence.pending }
    var isBackground: Bool { sequence.stream.client.isBackground }
  }

  /// Sequences with the same prompt.
  private struct Group {
    /// The sequence that computes the prompt.
    var leader: GenerationID
    /// The sequences that wait until the prompt is computed.
    var followers: [GenerationID] = []
  }

  let limits: SchedulerLimits
  private(set) var queue = FairQueue()
  /// In the order of their first admission.
  var running: [Entry] = []
  /// Also in the order of their first admission.
  private(set) var preempted: [Entry] = []
  private var waiting: [GenerationID: Entry] = [:]
  private var groups: [UInt64: Group] = [:]
  private var admissions: UInt64 = 0
  /// Passes that were planned.
  var passes: UInt64 = 0
  /// The admission number of the last decoder that got a row, while more sequences decode than fit into a pass.
  var lastDecoder: UInt64 = 0
  /// Rows that background sequences are owed.
  var backgroundCredit = 0.0
  private var earliestDeadline: Duration?
  /// Seconds that a row of a pass with prompts takes; `nil` until one was measured.
  private(set) var secondsPerRow: Double?
  /// What further rows of a decoding pass cost.
  private(set) var passCost = PassCost()

  /// The share of the time that training takes between passes. Passes can use the rest of `stepTarget`.
  var trainingShare = 0.0

  init(limits: SchedulerLimits) { self.limits = limits }

  /// Sequences that have not run yet, including those that wait for their group's leader.
  var waitingCount: Int { waiting.count }
  var runningCount: Int { running.count }
  /// Running sequences whose prompt is not computed yet.
  var prompts: [S] { running.lazy.filter { $0.pending > 1 }.map(\.sequence) }
  var isEmpty: Bool { waiting.isEmpty && running.isEmpty && preempted.isEmpty }
  /// All sequences that wait, are preempted or run.
  var sequences: [S] { (running + preempted + waiting.values).map(\.sequence) }

  // MARK: what happens

  /// Puts a new sequence into the queue.
  /// - Parameter now: on the clock of `next`
  mutating func enqueue(_ sequence: S, now: Duration) {
    let stream = queue.open(sequence.stream, now: now)
    waiting[sequence.id] = Entry(sequence: sequence, stream: stream)
    if let deadline = sequence.deadline { earliestDeadline = min(earliestDeadline ?? deadline, deadline) }
    guard let group = sequence.groupID else { return queue.wait(sequence.id, in: stream) }
    if groups[group] == nil {
      groups[group] = Group(leader: sequence.id)
      queue.wait(sequence.id, in: stream)
    } else {
      groups[group]?.followers.append(sequence.id)
    }
  }

  /// Removes a sequence, whether it waits or runs.
  /// - Parameter now: on the clock of `next`
  /// - Returns: the sequence and where it was; `nil` if there is none with this id
  @discardableResult
  mutating func remove(_ id: GenerationID, now: Duration) -> (sequence: S, phase: SchedulingPhase)? {
    let entry: Entry
    let phase: SchedulingPhase
    if let index = running.firstIndex(where: { $0.id == id }) {
      entry = running.remove(at: index)
      phase = .running
    } else if let found = waiting.removeValue(forKey: id) {
      queue.remove(id)
      entry = found
      phase = .waiting
    } else if let index = preempted.firstIndex(where: { $0.id == id }) {
      entry = preempted.remove(at: index)
      phase = .preempted
    } else {
      return nil
    }
    queue.close(entry.stream, now: now)
    if let group = entry.sequence.groupID { removeMember(ofGroup: group, id) }
    return (entry.sequence, phase)
  }

  /// Records how long a pass took, which decides how many rows prompts get while other sequences decode, and how many
  /// drafts get.
  /// - Parameter isDecoding: whether the pass had no rows of prompts
  mutating func completed(rows: Int, isDecoding: Bool = false, in time: Duration) {
    if isDecoding { passCost.record(rows: rows, seconds: time / .seconds(1)) }
    guard rows >= Self.minimumChunk else { return }
    let seconds = time / .seconds(1) / Double(rows)
    secondsPerRow = secondsPerRow.map { $0 * 0.8 + seconds * 0.2 } ?? seconds
  }

  // MARK: what is next

  /// Decides the next action.
  /// - Parameters:
  ///   - now: on the clock of the deadlines
  ///   - freeBlocks: cache blocks that a sequence can allocate
  ///   - sharedBlocks: how many of the blocks that a waiting sequence needs are held by others, so that it need not
  ///     allocate them
  mutating func next(now: Duration, freeBlocks: Int, sharedBlocks: (S) -> Int = { _ in 0 }) -> Action {
    if let earliest = earliestDeadline, earliest <= now, let sequence = expired(at: now) { return .expire(sequence) }
    if let action = admit(freeBlocks: freeBlocks, sharedBlocks: sharedBlocks) { return action }
    if running.isEmpty { return .idle }
    return planPass(freeBlocks: freeBlocks)
  }

  /// The sequence with the earliest deadline, if that has passed. Updates `earliestDeadline`.
  private mutating func expired(at now: Duration) -> S? {
    var first: (deadline: Duration, sequence: S)?
    for entry in [running, preempted, Array(waiting.values)].joined() {
      guard let deadline = entry.sequence.deadline else { continue }
      if let first, (first.deadline, first.sequence.id.value) < (deadline, entry.id.value) { continue }
      first = (deadline, entry.sequence)
    }
    earliestDeadline = first?.deadline
    return first.flatMap { $0.deadline <= now ? $0.sequence : nil }
  }

  // MARK: admission

  private mutating func admit(freeBlocks: Int, sharedBlocks: (S) -> Int) -> Action? {
    guard !(preempted.isEmpty && queue.count == 0) else { return nil }
    if let owed = owedToAdmit(), hasRoom(for: owed, freeBlocks: freeBlocks, sharedBlocks: sharedBlocks) {
      return start(owed)
    }
    guard let entry = nextToAdmit() else { return nil }
    guard hasRoom(for: entry, freeBlocks: freeBlocks, sharedBlocks: sharedBlocks) else {
      // Background sequences give way: their places and blocks are taken back for others. One stays where it runs
      // beside others, so that the background gets its share even if requests always wait.
      let kept = sharesPlaces && running.contains { !$0.isBackground } ? 1 : 0
      return !entry.isBackground && running.count(where: \.isBackground) > kept ? preempt() : nil
    }
    return start(entry)
  }

  /// Admits a sequence that waits, or resumes a preempted one.
  private mutating func start(_ entry: Entry) -> Action {
    var entry = entry
    let isFirst = entry.admission == 0
    if isFirst {
      waiting[entry.id] = nil
      queue.remove(entry.id)
      admissions += 1
      entry.admission = admissions
    } else {
      preempted.removeAll { $0.id == entry.id }
    }
    running.insert(entry, at: running.firstIndex { $0.admission > entry.admission } ?? running.count)
    return isFirst ? .admit(entry.sequence) : .resume(entry.sequence)
  }

  /// Whether there is a place for a sequence, and blocks.
  private func hasRoom(for entry: Entry, freeBlocks: Int, sharedBlocks: (S) -> Int) -> Bool {
    guard running.count < limits.running else { return false }
    guard !running.isEmpty else { return true }
    // Kept free: what running prompts will need, and a block for each running sequence. Otherwise the newly admitted
    // sequence would soon be preempted.
    var needed = running.count + blockCount(covering: entry.sequence.length)
    for other in running where other.pending > 1 {
      needed += max(blockCount(covering: other.sequence.length) - other.sequence.blockCount, 0)
    }
    return needed <= freeBlocks || needed - sharedBlocks(entry.sequence) <= freeBlocks
  }

  /// Whether a background sequence may keep a place that others wait for. A single place is never kept.
  private var sharesPlaces: Bool { limits.backgroundShare > 0 && limits.running > 1 }

  /// The background sequence that is owed a row while others run and none of the background does. It comes before those
  /// that wait: on a server where requests always wait, it would never start otherwise.
  private func owedToAdmit() -> Entry? {
    guard sharesPlaces, backgroundCredit >= 1, !running.isEmpty, !running.contains(where: \.isBackground) else {
      return nil
    }
    if let first = preempted.first(where: \.isBackground) { return first }
    return queue.next { queue.isBackground($0) }.flatMap { waiting[$0] }
  }

  /// The sequence to admit or resume next, if there are blocks for it: preempted ones first, background ones last, and
  /// these only while no others run: `owedToAdmit` has those that are owed a row.
  private func nextToAdmit() -> Entry? {
    if let first = preempted.first(where: { !$0.isBackground }) { return first }
    let backlog = backlog()
    func next(isBackground: Bool) -> Entry? {
      queue.next { queue.isBackground($0) == isBackground && mayStart(backlog[$0]) }.flatMap { waiting[$0] }
    }
    if let entry = next(isBackground: false) { return entry }
    guard running.allSatisfy(\.isBackground) else { return nil }
    return preempted.first ?? next(isBackground: true)
  }

  /// The prompts of a stream's running sequences that are being computed, and their rows that are still to be computed.
  private struct Backlog {
    var prompts = 0
    var rows = 0
  }

  private func backlog() -> [FairQueue.StreamIndex: Backlog] {
    var backlog: [FairQueue.StreamIndex: Backlog] = [:]
    for entry in running where entry.pending > 1 {
      backlog[entry.stream, default: Backlog()].prompts += 1
      backlog[entry.stream, default: Backlog()].rows += entry.pending
    }
    return backlog
  }

  /// A stream starts only as many prompts as the next passes can compute, so that requests of others that arrive later
  /// come before its remaining ones.
  private func mayStart(_ backlog: Backlog?) -> Bool {
    guard let backlog else { return true }
    return backlog.prompts < 4 || backlog.rows < limits.rowBudget
  }

  /// Preempts the sequence that was admitted last, a background one if there is any.
  mutating func preempt() -> Action {
    guard let last = running.lastIndex(where: \.isBackground) ?? running.indices.last else { return .idle }
    let entry = running.remove(at: last)
    preempted.insert(entry, at: preempted.firstIndex { $0.admission > entry.admission } ?? preempted.count)
    return .preempt(entry.sequence)
  }

  // MARK: groups

  /// A sequence has ended. If it was its group's leader, the first follower becomes the leader.
  private mutating func removeMember(ofGroup group: UInt64, _ id: GenerationID) {
    guard var members = groups[group] else { return }
    if members.leader != id {
      members.followers.removeAll { $0 == id }
    } else if members.followers.isEmpty {
      groups[group] = nil
      return
    } else {
      members.leader = members.followers.removeFirst()
      queueFollower(members.leader)
    }
    groups[group] = members
  }

  /// Lets the followers run, since their leader has computed the prompt.
  mutating func dissolve(group: UInt64, leader: GenerationID) {
    guard let members = groups[group], members.leader == leader else { return }
    groups[group] = nil
    for follower in members.followers { queueFollower(follower) }
  }

  private mutating func queueFollower(_ id: GenerationID) {
    if let entry = waiting[id] { queue.wait(id, in: entry.stream) }
  }

  /// Counts rows that a pass computes for a sequence on its stream's account.
  mutating func charge(_ entry: Entry, rows: Int) { queue.charge(entry.stream, rows: rows) }
}

extension Scheduler.Chunk: Equatable {
  static func == (a: Self, b: Self) -> Bool { a.sequence === b.sequence && a.positions == b.positions }
}

extension Scheduler.Action: Equatable {
  static func == (a: Self, b: Self) -> Bool {
    switch (a, b) {
    case (.admit(let a), .admit(let b)), (.resume(let a), .resume(let b)), (.preempt(let a), .preempt(let b)),
      (.expire(let a), .expire(let b)):
      a === b
    case (.step(let a), .step(let b)): a == b
    case (.idle, .idle): true
    default: false
    }
  }
}

/// Where a sequence is between its arrival and its end.
enum SchedulingPhase {
  /// It has not run yet.
  case waiting
  case running
  /// It ran, and waits to run again.
  case preempted
}
