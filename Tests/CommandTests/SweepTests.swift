import Formats
import Foundation
import Testing

@testable import graft

/// The grid of a sweep and its reports.
@Suite struct SweepTests {
  private func runs(_ given: [SweepGrid.Setting]) throws -> [String] {
    try SweepGrid(given).runs.map { $0.map { "\($0.name)=\($0.text)" }.joined(separator: " ") }
  }

  @Test func everyCombination() throws {
    #expect(
      try runs([("batch_size", "2"), ("lora_r", "4, 8"), ("target_modules", "q_proj,v_proj;all-linear")]) == [
        "lora_r=4 target_modules=q_proj,v_proj batch_size=2", "lora_r=4 target_modules=all-linear batch_size=2",
        "lora_r=8 target_modules=q_proj,v_proj batch_size=2", "lora_r=8 target_modules=all-linear batch_size=2",
      ])
    #expect(
      try runs([("lora_r", "4"), ("target_modules", "q_proj,v_proj")]) == ["lora_r=4 target_modules=q_proj,v_proj"])
    #expect(try runs([]) == [""])
  }

  @Test(arguments: ["4,,8", ",", "4,4", (1...201).map(String.init).joined(separator: ",")])
  func whatIsRefused(text: String) { #expect(throws: (any Error).self) { try SweepGrid([("lora_r", text)]) } }

  private var report: SweepReport {
    SweepReport(
      axes: ["lora_r"],
      results: [
        .init(
          values: ["4"], trainLoss: 0.5, validationLoss: 2, accuracy: 0.25, seconds: 3, parameters: 10, folder: "run-1"),
        .init(
          values: ["8<"], trainLoss: 0.4, validationLoss: 1, accuracy: 0.5, seconds: 4, parameters: 20, folder: "run-2"),
      ])
  }

  @Test func theBestIsFirst() {
    #expect(
      report.table(for: Terminal(isTerminal: true, usesColour: false, width: 80)) == """
        LORA R  VALIDATION  RIGHT  TRAINING  TIME  FOLDER
        8<          1.0000   50 %    0.4000   4 s  run-2
        4           2.0000   25 %    0.5000   3 s  run-1
        """)
    #expect(report.json.array?.map { $0["folder"]?.string } == ["run-2", "run-1"])
    #expect(report.json.array?[0]["settings"]?["lora_r"]?.string == "8<")
  }

  @Test func theDrawingIsWellFormed() throws {
    let svg = report.svg
    #expect(svg.contains("lora_r 8&lt;") && svg.contains("width=\"300.0\"") && svg.contains("width=\"150.0\""))
    let parser = XMLParserCheck()
    #expect(parser.accepts(svg))
  }
}

/// Whether tags are closed in order; enough for what the drawing has.
private struct XMLParserCheck {
  func accepts(_ text: String) -> Bool {
    var open: [Substring] = []
    for tag in text.matches(of: /<(\/?)([a-z]+)[^>]*?(\/?)>/) {
      if !tag.3.isEmpty { continue }
      if tag.1.isEmpty { open.append(tag.2) } else if open.popLast() != tag.2 { return false }
    }
    return open.isEmpty
  }
}
