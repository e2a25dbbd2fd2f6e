import Model

/// Chooses among jobs that share the time for training: the one that has used the minimum of it runs next.
enum FineTuningTurns {
  /// The job to run: one that ran when the process ended, else the one that used the minimum; of equals the oldest.
  /// - Parameter jobs: those that can run, in the order in which they were created
  static func next(_ jobs: [FineTuningJob]) -> FineTuningJob? {
    jobs.first { $0.status == .running } ?? jobs.min { $0.usedSeconds < $1.usedSeconds }
  }

  /// What a new or resumed job counts as having used: at least the minimum of the others, or it would have
  /// the machine to itself until it had caught up.
  static func start(of used: Double, among others: [FineTuningJob]) -> Double {
    max(used, others.map(\.usedSeconds).min() ?? 0)
  }

  /// Whether a job that runs is a turn ahead of one that waits.
  static func givesWay(_ used: Double, turn: Duration, to waiting: [FineTuningJob]) -> Bool {
    waiting.contains { used >= $0.usedSeconds + turn / .seconds(1) }
  }
}

extension FineTuningService {
  /// Jobs that run or wait, with what they have used by now. On the queue.
  func competitors(of id: String) throws -> [FineTuningJob] {
    try database.jobs(in: [.running, .queued]).compactMap { job in
      if job.id == id || job.base != environment.base.fingerprint { return nil }
      return current?.job.id == job.id ? current?.job : job
    }
  }

  /// Counts what the running job has used, and lets it give way to others if it is their turn. It continues from a
  /// checkpoint, so alternating changes no bit of what it learns. On the queue.
  func countTurn(step: Int, of total: Int) {
    guard var running = current else { return }
    running.job.usedSeconds = running.usedBefore + running.run.seconds
    current = running
    // Quick steps need not look through all jobs each time.
    let pause = min(environment.limits.turn / 4, .milliseconds(250))
    guard step < total, running.stopReason == nil, running.askedForTurn.duration(to: .now) >= pause else { return }
    current?.askedForTurn = .now
    guard let others = try? competitors(of: running.job.id),
      FineTuningTurns.givesWay(running.job.usedSeconds, turn: environment.limits.turn, to: others)
    else { return }
    current?.stopReason = .giveWay
    stopRun()
  }
}
