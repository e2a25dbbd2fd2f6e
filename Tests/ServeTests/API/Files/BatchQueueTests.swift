import Foundation
import GRDB
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Formats
@testable import Model
@testable import Serve

/// What waits for what among batches: neither a line nor a batch that cannot go on holds up others.
@Suite struct BatchQueueTests {
  private func line(_ number: Int) throws -> BatchLine {
    let text = #"{"custom_id": "r\#(number)", "method": "POST", "url": "/v1/completions", "body": {}}"#
    return try BatchLine(Array(text.utf8), number: number, endpoint: .completions)
  }

  private func batch(_ file: String) -> Batch {
    Batch(endpoint: .completions, inputFile: file, createdAt: 1000, metadata: nil)
  }

  @Test func aRefusedLineIsTriedAgainLaterAndLater() throws {
    var lines = RefusedLines()
    var now = Duration.zero
    var delays: [Int64] = []
    while lines.add(try line(3), wasAlone: true, now: now) {
      let before = now
      while lines.takeDue(now: now).isEmpty { now += .milliseconds(500) }
      delays.append((now - before).components.seconds)
      try #require(delays.count < 100, "it is never given up")
    }
    #expect(delays == [1, 2, 4, 8, 16, 32] + Array(repeating: 60, count: 9))
    #expect(lines.isEmpty)
  }

  @Test func onlyRefusalsWithoutOtherLinesCount() throws {
    var lines = RefusedLines()
    for _ in 0..<1000 {
      let isKept = lines.add(try line(1), wasAlone: false, now: .zero)
      #expect(isKept)
      #expect(lines.takeDue(now: .seconds(1)).map(\.number) == [1])
    }
    for number in 1...3 { _ = lines.add(try line(number), wasAlone: number == 2, now: .seconds(number)) }
    #expect(lines.count == 3 && lines.takeDue(now: .milliseconds(1999)).isEmpty)
    #expect(lines.takeDue(now: .seconds(3)).map(\.number) == [1, 2])
  }

  /// A line whose grammar finds no memory, because of the grammars of other requests, is never given up.
  @Test func refusalsThatOthersCauseDoNotCount() throws {
    var lines = RefusedLines()
    for _ in 0..<1000 {
      let isKept = lines.add(try line(1), wasAlone: true, waitsForOthers: true, now: .zero)
      #expect(isKept)
      #expect(lines.takeDue(now: .seconds(1)).map(\.number) == [1])
    }
    let cache = GrammarCache(try TinyModel(TinyShape(layers: 1)).tokenizer(), maximumMemory: 1)
    let running = try cache.compiled(TextConstraint.choice(["a"]), param: "guided_choice")
    let error = #expect(throws: APIError.self) { try cache.compiled(TextConstraint.regex("b"), param: "guided_regex") }
    #expect(error?.status == 503 && error?.waitsForOthers == true)
    withExtendedLifetime(running) {}
    #expect(!EngineError.overloaded(waiting: 1, retryAfter: 1).apiError.waitsForOthers)
  }

  @Test func aBatchThatCannotGoOnIsLeftOutForAWhile() {
    var delays = BatchDelays()
    let start = ContinuousClock.now
    var waits: [Duration] = []
    for _ in 0..<6 {
      delays.add("a", now: start)
      waits.append(start.duration(to: delays.next ?? start))
    }
    #expect(waits == [5, 10, 20, 40, 60, 60].map { .seconds($0) })
    delays.add("b", now: start)
    #expect(delays.waiting(now: start) == ["a", "b"] && delays.waiting(now: start + .seconds(5)) == ["a"])
    #expect(delays.next == start + .seconds(5))
    delays.end("b")
    delays.end("a")
    #expect(delays.next == nil && delays.waiting(now: start).isEmpty)
  }

  @Test func anUnreadableRecordStopsNoOtherBatch() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let database = try MetadataDatabase(DataFolder(folder.url))
    let batches = ["a", "b", "c", "d"].map(batch)
    for batch in batches { try database.insert(batch) }
    try database.write { db in
      try db.execute(sql: "UPDATE batch SET record = '{' WHERE id = ?", arguments: [batches[0].id])
      try db.execute(sql: "UPDATE batch SET record = '{\"id\": 7}' WHERE id = ?", arguments: [batches[1].id])
    }
    #expect(try database.oldestBatch() == batches[2])
    #expect(try database.oldestBatch(except: [batches[2].id]) == batches[3])
    #expect(try database.oldestBatch(except: [batches[2].id, batches[3].id]) == nil)
    #expect(try Set(database.unreadableBatches()) == Set(batches.prefix(2).map(\.id)))
    _ = try database.update(batch: batches[2].id) { $0.enter(.failed, at: 1001) }
    #expect(try database.oldestBatch() == batches[3])
  }

  /// A batch of which every line has the same warning logs it twice: with its first line, and with the number of lines.
  @Test func warningsOfABatchAreToldOnce() {
    let log = LogLines()
    var warnings = LineWarnings(batch: "b", Logger(label: "test") { _ in log })
    for line in 1...10_000 { warnings.note(["same.", "same.", "other \(min(line, 3))."], line: line) }
    // A line that was refused and is tried again.
    for _ in 0..<3 { warnings.note(["same."], line: 7) }
    warnings.note([], line: 20_000)
    warnings.tellCounts()
    let lines = log.all.withLock { $0 }
    #expect(lines.count == 6, "\(lines)")
    #expect(lines.filter { $0.hasPrefix("same. ") }.map { $0.contains("10000") } == [false, true])
    #expect(lines.filter { $0.hasPrefix("other 3. ") }.map { $0.contains("9998") } == [false, true])
  }

  @Test func manyDifferentWarningsOfABatchAreLimited() {
    let log = LogLines()
    var warnings = LineWarnings(batch: "b", Logger(label: "test") { _ in log })
    for line in 1...1000 { warnings.note(["number \(line)."], line: line) }
    warnings.tellCounts()
    let lines = log.all.withLock { $0 }
    #expect(lines.count == LineWarnings.maximumCount + 1)
    #expect(lines.last?.hasPrefix("further warnings are not told") == true && lines.last?.contains("900") == true)
  }

  @Test func moreAnswersThanCanEverWaitAreNoOverload() throws {
    let admissions = AdmissionControl(capacity: 4)
    #expect(throws: EngineError.exceedsQueue(answers: 5, capacity: 4)) { try admissions.admit(.batches, count: 5) }
    #expect(throws: EngineError.exceedsQueue(answers: 5, capacity: 4)) {
      try admissions.admit(ClientIdentity(key: "a"), count: 5)
    }
    let held = try admissions.admit(.batches, count: 3)
    #expect {
      _ = try admissions.admit(.batches, count: 2)
    } throws: {
      if case .overloaded? = $0 as? EngineError { true } else { false }
    }
    held.forEach { $0.release() }
    #expect(try admissions.admit(.batches, count: 4).count == 4)
    let error = EngineError.exceedsQueue(answers: 5, capacity: 4).apiError
    #expect(error.status == 400 && error.param == "n" && error.message.contains("at most 4"))
  }
}
