import Formats
import Testing

@testable import graft

/// Tables and job lines, as a terminal and as a pipe show them.
@Suite struct TableTests {
  private let wide = Terminal(isTerminal: true, usesColour: false, width: 80)
  private let pipe = Terminal(isTerminal: false, usesColour: false, width: 80)

  private var table: TextTable {
    var table = TextTable([
      .init(title: "NAME", canBeCut: true), .init(title: "RANK", isNumber: true), .init(title: "NOTE", canBeCut: true),
    ])
    table.add(["a", "8", "short"])
    table.add(["a much longer name", "16", "the last column is long, too"])
    return table
  }

  @Test func columnsAreAligned() {
    #expect(
      table.text(for: wide) == """
        NAME                RANK  NOTE
        a                      8  short
        a much longer name    16  the last column is long, too
        """)
  }

  @Test func aPipeGetsTabsWithoutHeaders() {
    #expect(table.text(for: pipe) == "a\t8\tshort\na much longer name\t16\tthe last column is long, too")
    #expect(TextTable([.init(title: "A")]).text(for: pipe).isEmpty)
  }

  @Test(arguments: 20...60) func aNarrowTerminalCutsTheWidestColumns(width: Int) {
    let text = table.text(for: Terminal(isTerminal: true, usesColour: false, width: width))
    let widest = text.split(separator: "\n").map(\.count).max() ?? 0
    // Below this, the columns are as narrow as they may be.
    #expect(widest <= max(width, 8 + 2 + 4 + 2 + 8))
    #expect(text.contains("16") && (width >= 54) == !text.contains("…"))
  }

  @Test func coloursDoNotChangeTheWidths() {
    var coloured = TextTable([.init(title: "A"), .init(title: "B")])
    coloured.add([.init("x", .good), "y"])
    let text = coloured.text(for: Terminal(isTerminal: true, usesColour: true, width: 80))
    #expect(text == "\u{1B}[1mA\u{1B}[0m  \u{1B}[1mB\u{1B}[0m\n\u{1B}[32mx\u{1B}[0m  y")
  }

  @Test func namesCannotControlTheTerminal() {
    var table = TextTable([.init(title: "A")])
    table.add(["\u{1B}[2Jx\ty\nz\u{9B}1m"])
    #expect(table.text(for: pipe) == " [2Jx y z 1m")
  }

  @Test func adaptersOnATerminalAndInAPipe() throws {
    let listing = try JSONValue.parse(
      """
      {"name": "p", "version": 2, "state": "on_disk", "reason": null, "pinned": true, "versions": [
        {"version": 1, "state": "on_disk", "reason": null, "rank": 4, "targets": ["q", "v"], "file_bytes": 2048,
         "content_hash": "0123456789abcdef", "base": "fedcba9876543210"},
        {"version": 2, "state": "on_disk", "reason": null, "rank": 8, "targets": ["q"], "file_bytes": 10,
         "content_hash": "1123456789abcdef", "base": "fedcba9876543210"}]}
      """.utf8, subject: "test")
    let refused = try JSONValue.parse(
      #"{"name": "bad", "version": null, "state": "refused", "reason": "no rank", "versions": []}"#.utf8,
      subject: "test")
    let adapters = AdapterTable([listing, refused])
    #expect(
      adapters.text(for: pipe) == """
        p@1\told\trank 4\t2048 bytes\t0123456789ab\tbase fedcba987654\tq,v
        p@2\tcurrent, pinned\trank 8\t10 bytes\t1123456789ab\tbase fedcba987654\tq
        bad\tno rank\trank 0\t0 bytes\t\tbase \t
        """)
    #expect(
      adapters.text(for: wide) == """
        NAME  STATE            RANK     SIZE  BASE      TARGETS
        p@1   old                 4  2.0 KiB  fedcba98  q v
        p@2   current, pinned     8     10 B  fedcba98  q
        bad   no rank             –        –  –         \("")
        """)
  }

  private func step(_ number: Int, time: Int) throws -> JSONValue {
    try JSONValue.parse(
      """
      {"type": "metrics", "created_at": \(time), "message": "", "data":
        {"step": \(number), "total_steps": 10, "train_loss": 1.25, "train_mean_token_accuracy": 0.5}}
      """.utf8, subject: "test")
  }

  @Test func aJobsLineHasLossAndTimeLeft() throws {
    var line = JobLine(terminal: pipe)
    #expect(line.text(try step(1, time: 100)) == "step 1/10  loss 1.2500  accuracy 50 %\n")
    #expect(line.text(try step(3, time: 104)) == "step 3/10  loss 1.2500  accuracy 50 %  14 s left\n")
    #expect(line.text(["type": "message", "message": "Done\u{7}"]) == "Done \n" && line.end.isEmpty)
    // After a rollback the time is measured anew.
    #expect(!line.text(try step(1, time: 200)).contains("left"))
    #expect(line.text(try step(2, time: 201)).contains("8 s left"))
  }

  @Test func aJobsLineChangesOnATerminal() throws {
    var line = JobLine(terminal: wide)
    #expect(line.text(try step(5, time: 1)).hasPrefix("\r\u{1B}[K██████████░░░░░░░░░░ step 5/10"))
    #expect(line.end == "\n")
    #expect(line.text(["type": "message", "message": "Done"]) == "\r\u{1B}[KDone\n" && line.end.isEmpty)
  }

  @Test(arguments: [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (150 << 20, "150 MiB"), (3 << 29, "1.5 GiB")])
  func bytes(count: Int, text: String) { #expect(Quantity.bytes(count) == text) }

  @Test(arguments: [(-3.0, "0 s"), (0.2, "1 s"), (119, "119 s"), (120, "2 min"), (7260, "2 h 1 min")])
  func times(seconds: Double, text: String) { #expect(Quantity.time(seconds) == text) }
}
