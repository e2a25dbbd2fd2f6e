import Model

/// Chooses among jobs that share the time for training: the one with the minimum of training time runs next.
enum FineTuningTurns {
  /// The job to run next: the one that ran when the last process ended, or else the one with the minimum of
  /// `usedSeconds`, and among equals the oldest.
  /// - Parameter jobs: those that can run, in the order of their creation
  static func next(_ jobs: [FineTuningJob]) -> FineTuningJob? {
    jobs.first { $0.status == .running } ?? jobs.min { $0.usedSeconds < $1.usedSeconds }
  }

  /// The `usedSeconds` of a new or resumed job: at least the minimum of the others. Otherwise it would run alone until
  /// it had caught up.
  static func start(of used: Double, among others: [FineTuningJob]) -> Double {
    max(used, others.map(\.usedSeconds).min() ?? 0)
  }

  /// Whether a running job is more than a turn ahead of a waiting one.
  static func givesWay(_ used: Double, turn: Duration, to waiting: [FineTuningJob]) -> Bool {
    waiting.contains { used >= $0.usedSeconds + turn / .seconds(1) }
  }
}

extension FineTuningService {
  /// The other jobs that run or wait, with their present `usedSeconds`. On the queue.
  func competitors(of id: String) throws -> [FineTuningJob] {
    try database.jobs(in: [.running, .queued]).compactMap { job in
      if job.id == id || job.base != environment.base.fingerprint { return nil }
      return current?.job.id == job.id ? current?.job : job
    }
  }

  /// Counts the running job's training time, and stops the job if it should give way to another one. It continues from
  /// a checkpoint later, so alternating changes no bit of what it learns. On the queue.
  func countTurn(step: Int, of total: Int) {
    guard var running = current else { return }
    running.job.usedSeconds = running.usedBefore + running.run.seconds
    current = running
    // Looking through all jobs after every step would be too often if steps are quick.
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
