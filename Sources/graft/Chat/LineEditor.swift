import CEdit
import Foundation
import Synchronization

/// Reads a person's lines: with editing and a history (libedit) on a terminal, and plainly otherwise.
final class LineEditor {
  /// Whether standard input is a terminal.
  let isTerminal = isatty(STDIN_FILENO) == 1
  private let history: URL?

  /// How the terminal was before lines were edited.
  private static let original = Mutex<termios?>(nil)
  private static let historyLength: Int32 = 1000

  /// - Parameter environment: says where the history is kept
  init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    history = isTerminal ? Self.historyFile(environment) : nil
    guard isTerminal else { return }
    var state = termios()
    if tcgetattr(STDIN_FILENO, &state) == 0 { Self.original.withLock { $0 = state } }
    // Without a locale, libedit would take each byte of a letter beyond ASCII for a letter.
    if setlocale(LC_CTYPE, "") == nil || !hasUTF8 { setlocale(LC_CTYPE, "C.UTF-8") }
    graft_edit_leave_signals()
    using_history()
    stifle_history(Self.historyLength)
    if let history { _ = read_history(history.path) }
  }

  private var hasUTF8: Bool { String(cString: nl_langinfo(nl_item(CODESET))) == "UTF-8" }

  /// "~/.local/state/graft/chat-history", or below XDG_STATE_HOME.
  static func historyFile(_ environment: [String: String]) -> URL? {
    if let home = environment["XDG_STATE_HOME"], !home.isEmpty {
      return URL(filePath: home).appending(path: "graft/chat-history")
    }
    return environment["HOME"].map { URL(filePath: $0).appending(path: ".local/state/graft/chat-history") }
  }

  /// Sets the terminal back, for an end in the middle of a line.
  static func restoreTerminal() {
    if var state = original.withLock({ $0 }) { _ = tcsetattr(STDIN_FILENO, TCSANOW, &state) }
  }

  /// A message: a line, lines that end in "\" with the one after them, or the lines between two lines of `"""`.
  /// - Returns: `nil` at the end of the input
  func readMessage() -> String? {
    let message = Self.message { self.readLine(isFirst: $0) }
    if let message, isTerminal, !message.trimmingCharacters(in: .whitespaces).isEmpty { remember(message) }
    return message
  }

  /// Puts a message together.
  /// - Parameter next: the next line; its argument says whether it is the first of the message
  static func message(_ next: (Bool) -> String?) -> String? {
    guard var line = next(true) else { return nil }
    let fence = "\"\"\""
    if line.trimmingCharacters(in: .whitespaces) == fence {
      var lines: [String] = []
      while let more = next(false), more.trimmingCharacters(in: .whitespaces) != fence { lines.append(more) }
      return lines.joined(separator: "\n")
    }
    var message = ""
    while line.hasSuffix("\\") {
      message += line.dropLast() + "\n"
      guard let more = next(false) else { return message }
      line = more
    }
    return message + line
  }

  private func readLine(isFirst: Bool) -> String? {
    guard isTerminal else { return Swift.readLine() }
    // The terminal stops editing before the prompt is shown; libedit alone asks for that after it. A key that came between
    // them, Ctrl-D among them, would be the terminal's.
    rl_prep_terminal(1)
    guard let line = readline(isFirst ? "> " : ". ") else { return nil }
    defer { free(line) }
    return String(cString: line)
  }

  /// Adds a message to the history, in one line, and writes the history for its owner alone.
  private func remember(_ message: String) {
    add_history(message.replacingOccurrences(of: "\n", with: " "))
    guard let history else { return }
    let folder = history.deletingLastPathComponent()
    try? FileManager.default.createDirectory(
      at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    if !FileManager.default.fileExists(atPath: history.path) {
      _ = FileManager.default.createFile(atPath: history.path, contents: nil, attributes: [.posixPermissions: 0o600])
    }
    _ = write_history(history.path)
  }
}
