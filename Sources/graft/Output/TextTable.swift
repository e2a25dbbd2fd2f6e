/// Rows in columns: aligned under headers on a terminal, and otherwise one line for each row with tabs between its cells,
/// without headers, for other programs.
struct TextTable {
  /// How a column is shown.
  struct Column {
    let title: String
    /// Numbers end at the same place.
    var isNumber = false
    /// Whether its texts may be cut if the terminal is too narrow.
    var canBeCut = false
  }

  /// A text with a style.
  struct Cell: ExpressibleByStringInterpolation {
    let text: String
    var style: Terminal.Style?

    init(_ text: String, _ style: Terminal.Style? = nil) { (self.text, self.style) = (text, style) }
    init(stringLiteral value: String) { self.init(value) }
  }

  let columns: [Column]
  private(set) var rows: [[Cell]] = []

  init(_ columns: [Column]) { self.columns = columns }

  /// - Precondition: one cell for each column
  mutating func add(_ cells: [Cell]) {
    precondition(cells.count == columns.count)
    rows.append(cells.map { Cell(Terminal.harmless($0.text), $0.style) })
  }

  private static let gap = 2
  /// The width below which no column is cut.
  private static let narrowest = 8

  /// The lines, without a line break at the end.
  func text(for terminal: Terminal) -> String {
    guard terminal.isTerminal else {
      return rows.map { $0.map(\.text).joined(separator: "\t") }.joined(separator: "\n")
    }
    let widths = widths(terminal.width)
    let header = line(columns.map { Cell($0.title, .bold) }, widths, terminal)
    return ([header] + rows.map { line($0, widths, terminal) }).joined(separator: "\n")
  }

  /// The widths of the columns. If they do not fit, the widest one that can be cut loses a column until they do.
  private func widths(_ available: Int) -> [Int] {
    var widths = columns.indices.map { column in
      ([columns[column].title] + rows.map { $0[column].text }).map(\.count).max() ?? 0
    }
    let gaps = Self.gap * (columns.count - 1)
    while widths.reduce(gaps, +) > available {
      let candidates = columns.indices.filter { columns[$0].canBeCut && widths[$0] > Self.narrowest }
      guard let widest = candidates.max(by: { widths[$0] < widths[$1] }) else { break }
      widths[widest] -= 1
    }
    return widths
  }

  private func line(_ cells: [Cell], _ widths: [Int], _ terminal: Terminal) -> String {
    var line = ""
    for (index, cell) in cells.enumerated() {
      let text = cell.text.count > widths[index] ? cell.text.prefix(widths[index] - 1) + "…" : cell.text
      let padding = String(repeating: " ", count: widths[index] - text.count)
      let styled = terminal.styled(text, cell.style)
      if columns[index].isNumber {
        line += padding + styled
      } else {
        line += index == cells.count - 1 ? styled : styled + padding
      }
      if index < cells.count - 1 { line += String(repeating: " ", count: Self.gap) }
    }
    return line
  }
}
