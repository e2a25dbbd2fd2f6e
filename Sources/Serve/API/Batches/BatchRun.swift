import Dispatch
import Formats
import Foundation
import Logging
import Synchronization

/// The computing of one batch's lines. Used on the service's thread.
final class BatchRun {
  /// The end of a line's request.
  private struct Ending: Sendable {
    var line: BatchLine
    var status: Int
    var body: [UInt8]

    /// Whether the server had no place for the request, so that it is tried again.
    var wasRefused: Bool { status == 429 || status == 503 }
  }

  /// A line that waits or runs in the engine.
  private struct RunningLine {
    let target: BatchLineTarget
    /// Whether no other line ran when it began.
    let isAlone: Bool
    /// Whether it was refused because of other requests alone.
    var waitsForOthers = false
  }

  /// The requests that have ended since the last look: added on the loop, taken on the service's thread.
  private final class Endings: Sendable {
    let list = Mutex<[Ending]>([])
  }

  private let service: BatchService
  private let batch: Batch
  private let endings = Endings()
  /// The lines that wait or run in the engine, by their numbers.
  private var running: [Int: RunningLine] = [:]
  private var refused = RefusedLines()
  private var warnings: LineWarnings
  private let began = ContinuousClock.now

  init(_ batch: Batch, service: BatchService) {
    self.batch = batch
    self.service = service
    warnings = LineWarnings(batch: batch.id, service.logger)
  }

  /// Computes the lines that have no result yet, until all have one, the batch is cancelled or expires, or the service stops.
  /// - Throws: `Batch.Problem` if the batch can never be completed; `ModelError` if results cannot be stored now. Everything
  ///   that was stored stays.
  func run() throws {
    defer {
      for line in running.values { line.target.close() }
      warnings.tellCounts()
    }
    let done = try service.database.linesWithResult(ofBatch: batch.id)
    let input = service.inputFile(of: batch.id)
    guard FileManager.default.fileExists(atPath: input.path) else { throw Batch.Problem.noInput }
    var reader = try BatchReader(input)
    var isAtEnd = false
    while true {
      try storeEndings()
      if service.isStopping { return }
      guard try service.database.batch(batch.id)?.status == .inProgress else { return }
      guard BatchService.now < batch.expiresAt else {
        return try BatchResults(batch, service: service).finish(as: .expired)
      }
      if running.isEmpty { for line in refused.takeDue(now: began.duration(to: .now)) { start(line) } }
      while running.count < BatchService.maximumRunning, refused.count < BatchService.maximumRunning, !isAtEnd {
        guard let (number, text) = try reader.next() else {
          isAtEnd = true
          break
        }
        if done.contains(number) { continue }
        // The line was read without an error when the batch was validated.
        if let line = try? BatchLine(text, number: number, endpoint: batch.endpoint) { start(line) }
      }
      if isAtEnd, running.isEmpty, refused.isEmpty, endings.list.withLock(\.isEmpty) { break }
      _ = service.wake.wait(timeout: .now() + 1)
    }
    _ = try service.database.update(batch: batch.id) { batch in
      if batch.status == .inProgress { batch.enter(.finalizing, at: BatchService.now) }
    }
  }

  private func start(_ line: BatchLine) {
    let wake = service.wake
    let target = BatchLineTarget(loop: service.loop) { [endings] status, body in
      endings.list.withLock { $0.append(Ending(line: line, status: status, body: body)) }
      wake.signal()
    }
    running[line.number] = RunningLine(target: target, isAlone: running.isEmpty)
    let (context, loop) = (service.context, service.loop)
    do throws(APIError) {
      guard line.body["stream"]?.bool != true else {
        throw .invalid("'stream' must be false in a batch", param: "stream", code: "invalid_value")
      }
      let prepared = try batch.endpoint.prepare(
        line.body, context: context, memory: service.memory, unknownNames: service.unknownNames, Abandonment())
      warnings.note(prepared.warnings, line: line.number)
      loop.execute {
        do throws(APIError) {
          try prepared.run(for: target, client: .batches, query: [], context: context)
        } catch { target.respond(error) }
      }
    } catch {
      running[line.number]?.waitsForOthers = error.waitsForOthers
      loop.execute { target.respond(error) }
    }
  }

  /// Stores the results of the requests that have ended.
  private func storeEndings() throws {
    let ended = endings.list.withLock { endings in
      defer { endings = [] }
      return endings
    }
    var results: [BatchResult] = []
    for ending in ended {
      let line = running.removeValue(forKey: ending.line.number)
      if ending.wasRefused,
        refused.add(
          ending.line, wasAlone: line?.isAlone ?? false, waitsForOthers: line?.waitsForOthers ?? false,
          now: began.duration(to: .now))
      {
        continue
      }
      refused.forget(ending.line)
      results.append(
        BatchResult(
          line: ending.line.number, hasFailed: ending.status != 200,
          text: BatchLine.result(ending.line.customID, status: ending.status, response: ending.body)))
    }
    if !results.isEmpty { try service.database.add(results, toBatch: batch.id) }
  }
}

/// The result of a line.
struct BatchResult: Sendable {
  var line: Int
  var hasFailed: Bool
  /// A line of a result file.
  var text: [UInt8]
}
