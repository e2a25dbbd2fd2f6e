import Foundation

/// A progress bar on standard error: redrawn in place on a terminal, otherwise a line every ten per cent.
struct ProgressBar {
  private let title: String
  private let isTerminal = Terminal.error.isTerminal
  private let started = ContinuousClock.now
  private var shown = -1

  init(title: String) { self.title = title }

  /// - Parameter share: 0 ... 1
  mutating func update(_ share: Double) throws {
    let percent = Int(share * 100)
    guard percent > shown, isTerminal || percent / 10 > shown / 10 || shown < 0 else { return }
    shown = percent
    if isTerminal {
      let filled = percent * 30 / 100
      let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 30 - filled)
      let elapsed = started.duration(to: .now)
      let left = share > 0.02 ? "  \(Int(elapsed / share * (1 - share) / .seconds(1)) + 1) s left" : ""
      FileHandle.standardError.write(Data("\r\u{1B}[K\(title) \(bar) \(percent) %\(left)".utf8))
    } else {
      FileHandle.standardError.write(Data("\(title): \(percent) %\n".utf8))
    }
  }

  /// Clears the line, if a bar was drawn on it.
  mutating func finish() {
    if shown >= 0, isTerminal { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
  }
}
