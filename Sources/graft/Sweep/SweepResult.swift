import Formats
import Foundation

/// What came of one run of a sweep.
struct SweepResult: Equatable {
  /// The values of the axes, in the grid's order.
  var values: [String]
  var trainLoss: Double
  /// The lowest of the run's validations and the share of right tokens with it.
  var validationLoss: Double?
  var accuracy: Double?
  var seconds: Double
  var parameters: Int
  /// The name of the run's folder.
  var folder: String

  /// What runs are compared by.
  var loss: Double { validationLoss ?? trainLoss }
}

/// The results of a sweep as a table, as JSON and as a drawing. The best run is first.
struct SweepReport {
  let axes: [String]
  let results: [SweepResult]

  init(axes: [String], results: [SweepResult]) {
    self.axes = axes
    self.results = results.sorted { $0.loss < $1.loss }
  }

  func table(for terminal: Terminal) -> String {
    let titles = axes.map { $0.uppercased().replacingOccurrences(of: "_", with: " ") }
    var table = TextTable(
      titles.map { .init(title: $0, canBeCut: true) } + [
        .init(title: "VALIDATION", isNumber: true), .init(title: "RIGHT", isNumber: true),
        .init(title: "TRAINING", isNumber: true), .init(title: "TIME", isNumber: true), .init(title: "FOLDER"),
      ])
    for (index, result) in results.enumerated() {
      table.add(
        result.values.map { .init($0) } + [
          .init(result.validationLoss.map { String(format: "%.4f", $0) } ?? "–", index == 0 ? .good : nil),
          .init(result.accuracy.map { String(format: "%.0f %%", $0 * 100) } ?? "–"),
          .init(String(format: "%.4f", result.trainLoss)), .init(Quantity.time(result.seconds)), .init(result.folder),
        ])
    }
    return table.text(for: terminal)
  }

  var json: JSONValue {
    .array(
      results.map { result in
        [
          "settings": .object(JSONObject(keepingFirst: zip(axes, result.values).map { ($0, .string($1)) })),
          "validation_loss": result.validationLoss.map(JSONValue.number) ?? .null,
          "validation_accuracy": result.accuracy.map(JSONValue.number) ?? .null,
          "train_loss": .number(result.trainLoss), "seconds": .number(result.seconds),
          "parameters": .integer(result.parameters), "folder": .string(result.folder),
        ]
      })
  }

  // MARK: the drawing

  private static let labelWidth = 260.0
  private static let barWidth = 300.0
  private static let rowHeight = 22.0

  /// One bar for each run: its validation loss, or its training loss if nothing was held out.
  var svg: String {
    let top = max(results.map(\.loss).max() ?? 1, 1e-9)
    let height = 56 + Self.rowHeight * Double(results.count)
    let rows = results.enumerated().map { index, result in
      let y = 44 + Self.rowHeight * Double(index)
      let label = zip(axes, result.values).map { "\($0) \($1)" }.joined(separator: ", ")
      let width = Self.barWidth * result.loss / top
      return String(
        format: """
          <text x="%.0f" y="%.0f" text-anchor="end">%@</text>\
          <rect x="%.0f" y="%.0f" width="%.1f" height="14" fill="%@"/><text x="%.1f" y="%.0f">%.4f</text>
          """, Self.labelWidth - 8, y + 11, Self.escaped(label), Self.labelWidth, y, width,
        index == 0 ? "#1f5f8b" : "#9db8cc", Self.labelWidth + width + 6, y + 11, result.loss)
    }
    let title = results.contains { $0.validationLoss != nil } ? "validation loss" : "training loss"
    return """
      <svg xmlns="http://www.w3.org/2000/svg" width="640" height="\(Int(height))" font-family="sans-serif" font-size="11">
      <rect width="640" height="\(Int(height))" fill="white"/><text x="16" y="24" font-size="14">\(title) of each run</text>
      \(rows.joined(separator: "\n"))
      </svg>

      """
  }

  private static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
      .replacingOccurrences(of: ">", with: "&gt;")
  }
}
