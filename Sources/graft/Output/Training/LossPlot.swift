import Foundation
import Train

/// The training loss of a run, its running mean and the validation loss, as an SVG drawing with a legend.
struct LossPlot {
  typealias Point = (step: Double, loss: Double)

  let history: LossHistory
  let title: String

  private static let size = (width: 640.0, height: 320.0)
  private static let margin = 48.0
  /// The maximum number of points that are drawn.
  private static let resolution = 1200
  /// The factor on the earlier part of the running mean at each step.
  private static let decay = 0.9

  private enum Series: String, CaseIterable {
    case training = "training loss"
    case mean = "running mean"
    case validation = "validation loss"

    var style: String {
      switch self {
      case .training: "stroke=\"#9db8cc\""
      case .mean: "stroke=\"#1f5f8b\" stroke-width=\"2\""
      case .validation: "stroke=\"#c2571a\" stroke-width=\"2\""
      }
    }
  }

  var svg: String {
    let points = Self.thinned(history)
    let series: [(Series, [Point])] = [
      (.training, points), (.mean, Self.mean(points)),
      (.validation, history.validations.map { (step: Double($0.step), loss: $0.loss) }),
    ].filter { !$0.1.isEmpty }
    let top = max(series.flatMap { $0.1.map(\.loss) }.max() ?? 1, 1e-9)
    let width = Self.size.width - 2 * Self.margin
    let height = Self.size.height - 2 * Self.margin
    func place(_ point: Point) -> (x: Double, y: Double) {
      let x = Self.margin + width * (point.step - 1) / max(Double(history.count) - 1, 1)
      return (x, Self.margin + height * (1 - point.loss / top))
    }
    func line(_ series: Series, _ points: [Point]) -> String {
      let places = points.map(place).map { String(format: "%.1f,%.1f", $0.x, $0.y) }
      var text = "<polyline fill=\"none\" \(series.style) points=\"\(places.joined(separator: " "))\"/>"
      // A few values are marked by circles, so that each, even a single one, can be seen.
      if series == .validation, places.count <= 50 {
        text += points.map(place).map {
          String(format: "\n<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"#c2571a\"/>", $0.x, $0.y)
        }
        .joined()
      }
      return text
    }
    let marks = (0...4).map { mark in
      let loss = top * Double(mark) / 4
      let y = Self.margin + height * (1 - Double(mark) / 4)
      return String(
        format:
          "<path d=\"M%.0f %.1fH%.0f\" stroke=\"#e3e3e3\"/><text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>",
        Self.margin, y, Self.margin + width, Self.margin - 6, y + 4, loss)
    }
    let legend = series.enumerated().map { index, entry in
      let x = Self.size.width - Self.margin - 120 * Double(series.count - index)
      return String(
        format: "<path d=\"M%.0f 36h16\" %@/><text x=\"%.0f\" y=\"40\">%@</text>", x, entry.0.style, x + 22,
        entry.0.rawValue)
    }
    let name = title.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
    return """
      <svg xmlns="http://www.w3.org/2000/svg" width="640" height="320" font-family="sans-serif" font-size="11">
      <rect width="640" height="320" fill="white"/><text x="48" y="22" font-size="14">\(name)</text>
      \(marks.joined(separator: "\n"))
      \(legend.joined(separator: "\n"))
      <text x="592" y="300" text-anchor="end">step \(history.count)</text><text x="48" y="300">step 1</text>
      \(series.map { line($0.0, $0.1) }.joined(separator: "\n"))
      </svg>

      """
  }

  /// An exponential mean, divided by the sum of its weights so far. Without that division the first steps would count
  /// more than all others, or, if the mean began at zero, pull it down.
  static func mean(_ points: [Point]) -> [Point] {
    var (sum, weight) = (0.0, 0.0)
    return points.map { point in
      sum = decay * sum + (1 - decay) * point.loss
      weight = decay * weight + (1 - decay)
      return (point.step, sum / weight)
    }
  }

  /// The history as points. If there are more than `resolution`, neighbouring ones are averaged.
  private static func thinned(_ history: LossHistory) -> [Point] {
    let losses = history.means
    let group = max((losses.count + resolution - 1) / resolution, 1)
    return stride(from: 0, to: losses.count, by: group).map { first in
      let part = losses[first..<min(first + group, losses.count)]
      let entries = Double(first) + Double(part.count + 1) / 2
      let step = (entries - 0.5) * Double(history.group) + 0.5
      return (step, part.reduce(0, +) / Double(part.count))
    }
  }
}
