import Formats
import Foundation
import Logging
import Testing

@testable import Train
@testable import graft

/// What a training run says at its end, the start-up block, and lines of the log.
@Suite struct SummaryTests {
  private func history(_ losses: [Double], _ validations: [(Int, Double)]) -> LossHistory {
    var history = LossHistory()
    losses.forEach { history.append($0) }
    validations.forEach { history.appendValidation(step: $0.0, loss: $0.1) }
    return history
  }

  private func summary(_ losses: [Double], _ validations: [(Int, Double)]) -> TrainingSummary {
    TrainingSummary(history: history(losses, validations), trainAccuracy: 0.5, validationAccuracy: 0.25)
  }

  @Test func losses() {
    #expect(
      summary([2, 1], [(1, 2), (2, 1.5)]).lines == [
        "training loss    2.0000 → 1.0000, 50 % of the tokens right",
        "validation loss  2.0000 → 1.5000, 25 % of the tokens right",
      ])
  }

  @Test func hints() throws {
    let rising = try #require(summary([2, 0.1], [(10, 1), (20, 1.2)]).hint)
    #expect(
      rising.contains("overfitting") && rising.contains("step 10") && rising.contains("--early-stopping-patience"))
    #expect(summary([2, 0.1], [(10, 1.2), (20, 1), (30, 1.02)]).hint == nil)
    #expect(summary([2, 0.01], []).hint?.contains("by heart") == true)
    #expect(summary([2, 1], []).hint?.contains("--validation-split") == true)
  }

  @Test func commandsCanBePasted() {
    let commands = TrainingSummary.commands(
      folder: URL(filePath: "/tmp/it's"), model: "m.gguf", settings: ["--data-dir", "/d d"]
    ).joined(separator: "\n")
    #expect(commands.contains(#"graft chat --model m.gguf --data-dir '/d d' --adapter '/tmp/it'\''s'"#))
    #expect(commands.contains("adapters load a-it-s-a "))
    #expect(TrainingSummary.adapterName(URL(filePath: "/x/pirate-run")) == "pirate-run")
  }

  @Test func theStartupBlock() {
    let block = StartupBlock(
      model: "m", details: "m.gguf", adapters: ["a", "b", "c", "d", "e"], kernels: "avx2", threads: 1,
      keyValueBytes: 2 << 30, adapterBytes: 1 << 30, contextLength: 8192, url: "http://127.0.0.1:8080", hasKey: true)
    let text = block.text(for: Terminal(isTerminal: true, usesColour: false, width: 80))
    for part in ["5: a, b, c, d and 1 more", "avx2, 1 thread\n", "2.0 GiB for keys", "Bearer $GRAFT_API_KEY"] {
      #expect(text.contains(part), "\(part)")
    }
  }

  private let line = LogLine(
    level: .warning, message: "adapter\u{1B}[2J refused", metadata: ["b": "x\ny", "a": "1", "level": "z"])

  @Test func logLinesForPeople() {
    let text = line.text(for: Terminal(isTerminal: true, usesColour: false, width: 80), at: Date())
    #expect(text.wholeMatch(of: /\d\d:\d\d:\d\d  warning: adapter \[2J refused  a=1 b=x y level=z/) != nil, "\(text)")
  }

  @Test func requestsForPeople() {
    let line = LogLine(
      level: .info, message: "request", metadata: ["method": "GET", "path": "/x", "status": "200", "ms": "3.1"])
    let text = line.text(for: Terminal(isTerminal: true, usesColour: false, width: 80), at: Date())
    #expect(text.hasSuffix("  GET /x 200  ms=3.1"))
  }

  @Test func logLinesForPrograms() throws {
    let text = line.json(at: Date(timeIntervalSince1970: 0.25))
    let object = try #require(JSONValue.parse(text.utf8, subject: "line").object)
    #expect(
      object["time"]?.string?.hasPrefix("1970-01-01T00:00:00.250") == true && object["level"]?.string == "warning")
    #expect(object["b"]?.string == "x\ny" && object["_level"]?.string == "z" && !text.contains("\n"))
  }
}
