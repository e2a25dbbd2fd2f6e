import Foundation

/// What one of the standard streams can show. The only place that decides on colours and widths.
struct Terminal: Sendable {
  /// A meaning that text on a terminal can have, shown as a colour or weight.
  enum Style: String, CaseIterable {
    case bold = "1"
    case faint = "2"
    case good = "32"
    case bad = "31"
    case warning = "33"
    case accent = "36"
  }

  /// Whether a person reads the stream: it is no file and no pipe.
  let isTerminal: Bool
  /// Whether styles are shown: on a terminal, without NO_COLOR (no-color.org) and not with TERM=dumb.
  let usesColour: Bool
  /// Columns of a line.
  let width: Int

  /// Standard output.
  static let output = Terminal(descriptor: STDOUT_FILENO)
  /// Standard error.
  static let error = Terminal(descriptor: STDERR_FILENO)

  init(isTerminal: Bool, usesColour: Bool, width: Int) {
    (self.isTerminal, self.usesColour, self.width) = (isTerminal, usesColour, width)
  }

  private init(descriptor: Int32) {
    let variables = ProcessInfo.processInfo.environment
    isTerminal = isatty(descriptor) == 1
    usesColour = isTerminal && variables["NO_COLOR", default: ""].isEmpty && variables["TERM"] != "dumb"
    var size = winsize()
    let isKnown = ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
    width = variables["COLUMNS"].flatMap { Int($0) } ?? (isKnown ? Int(size.ws_col) : 80)
  }

  /// The text with a style, if the stream shows styles.
  func styled(_ text: String, _ style: Style?) -> String {
    guard let style, usesColour, !text.isEmpty else { return text }
    return "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m"
  }

  /// Text that others wrote, such as a name or a reason, without the characters that would control a terminal.
  static func harmless(_ text: String) -> String {
    String(text.unicodeScalars.map { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) ? " " : Character($0) })
  }
}
