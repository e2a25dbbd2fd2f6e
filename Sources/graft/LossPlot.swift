import Foundation

/// The loss of every optimiser step and its running mean, as an SVG drawing.
struct LossPlot {
  let losses: [Double]
  let title: String

  private static let size = (width: 640.0, height: 320.0)
  private static let margin = 48.0
  /// Points drawn at most.
  private static let resolution = 1200

  var svg: String {
    let points = Self.thinned(losses)
    let top = max(points.map(\.loss).max() ?? 1, 1e-9)
    let width = Self.size.width - 2 * Self.margin
    let height = Self.size.height - 2 * Self.margin
    func place(_ step: Double, _ loss: Double) -> String {
      let x = Self.margin + width * (step - 1) / max(Double(losses.count) - 1, 1)
      return String(format: "%.1f,%.1f", x, Self.margin + height * (1 - loss / top))
    }
    func line(_ values: [(step: Double, loss: Double)], _ style: String) -> String {
      "<polyline fill=\"none\" \(style) points=\"\(values.map { place($0.step, $0.loss) }.joined(separator: " "))\"/>"
    }
    var mean: [(step: Double, loss: Double)] = []
    for point in points {
      let before = mean.last?.loss ?? point.loss
      mean.append((point.step, before + (point.loss - before) * 0.1))
    }
    let marks = (0...4).map { mark in
      let loss = top * Double(mark) / 4
      let y = Self.margin + height * (1 - Double(mark) / 4)
      return String(
        format:
          "<path d=\"M%.0f %.1fH%.0f\" stroke=\"#e3e3e3\"/><text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>",
        Self.margin, y, Self.margin + width, Self.margin - 6, y + 4, loss)
    }
    let name = title.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
    return """
      <svg xmlns="http://www.w3.org/2000/svg" width="640" height="320" font-family="sans-serif" font-size="11">
      <rect width="640" height="320" fill="white"/><text x="48" y="28" font-size="14">\(name)</text>
      \(marks.joined(separator: "\n"))
      <text x="592" y="300" text-anchor="end">step \(losses.count)</text><text x="48" y="300">step 1</text>
      \(line(points, "stroke=\"#9db8cc\""))
      \(line(mean, "stroke=\"#1f5f8b\" stroke-width=\"2\""))
      </svg>

      """
  }

  /// Neighbouring steps are averaged where there are more than can be seen.
  private static func thinned(_ losses: [Double]) -> [(step: Double, loss: Double)] {
    let group = max((losses.count + resolution - 1) / resolution, 1)
    return stride(from: 0, to: losses.count, by: group).map { first in
      let part = losses[first..<min(first + group, losses.count)]
      return (Double(first) + Double(part.count + 1) / 2, part.reduce(0, +) / Double(part.count))
    }
  }
}
