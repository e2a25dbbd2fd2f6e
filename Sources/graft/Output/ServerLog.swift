public import ArgumentParser
import Formats
import Foundation
public import Logging
import Synchronization

/// How the server writes its log.
enum LogFormat: String, CaseIterable, ExpressibleByArgument {
  /// For people: the time, the message, then details; coloured.
  case terminal
  /// swift-log's lines: time, level, then details and message.
  case text
  /// One JSON object a line.
  case json
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// The options of the log.
struct LogOptions: ParsableArguments {
  @Option(help: "terminal, text or json (default: terminal on a terminal, else text).")
  var logFormat: LogFormat?

  @Option(help: "trace, debug, info, notice, warning, error or critical. Polls of /health and /ready are at debug.")
  var logLevel: Logger.Level = .info

  @Flag(help: "Log the text of every prompt, for finding errors. Whoever reads the log can then read what users write.")
  var logPrompts = false

  /// The format that is used.
  var format: LogFormat { logFormat ?? (Terminal.error.isTerminal ? .terminal : .text) }

  /// A logger that writes to standard error.
  var logger: Logger {
    let (format, terminal) = (format, Terminal.error)
    var logger = Logger(label: "graft") { label in
      switch format {
      case .text: StreamLogHandler.standardError(label: label)
      case .terminal: LineLogHandler { LogLine(event: $0, metadata: $1).text(for: terminal, at: $2) }
      case .json: LineLogHandler { LogLine(event: $0, metadata: $1).json(at: $2) }
      }
    }
    logger.logLevel = logLevel
    return logger
  }
}

/// A log event with all its metadata, as a line.
struct LogLine {
  let level: Logger.Level
  let message: String
  let metadata: Logger.Metadata

  init(level: Logger.Level, message: String, metadata: Logger.Metadata) {
    (self.level, self.message, self.metadata) = (level, message, metadata)
  }

  init(event: LogEvent, metadata: Logger.Metadata) {
    self.init(
      level: event.level, message: "\(event.message)", metadata: metadata.merging(event.metadata ?? [:]) { $1 })
  }

  /// "12:03:59  request  status=200 ms=3.2"
  func text(for terminal: Terminal, at time: Date) -> String {
    var seconds = time_t(time.timeIntervalSince1970)
    var fields = tm()
    localtime_r(&seconds, &fields)
    let clock = String(format: "%02d:%02d:%02d", fields.tm_hour, fields.tm_min, fields.tm_sec)
    let style: Terminal.Style? =
      switch level {
      case .trace, .debug: .faint
      case .info, .notice: nil
      case .warning: .warning
      case .error, .critical: .bad
      }
    let prefix = level >= .warning ? "\(level): " : ""
    let (message, metadata) = forPeople
    let details = metadata.sorted { $0.key < $1.key }.map { "\($0.key)=\(Terminal.harmless("\($0.value)"))" }
    return [
      terminal.styled(clock, .faint), terminal.styled(prefix + Terminal.harmless(message), style),
      terminal.styled(details.joined(separator: " "), .faint),
    ].filter { !$0.isEmpty }.joined(separator: "  ")
  }

  /// A request's line begins with what was asked and answered.
  private var forPeople: (message: String, metadata: Logger.Metadata) {
    guard message == "request", let method = metadata["method"], let path = metadata["path"],
      let status = metadata["status"]
    else { return (message, metadata) }
    return ("\(method) \(path) \(status)", metadata.filter { !["method", "path", "status"].contains($0.key) })
  }

  /// An object with `time` (ISO 8601, UTC), `level`, `message` and the details; a detail of one of these names comes last
  /// with a "_" before it.
  func json(at time: Date) -> String {
    let own: Set<String> = ["time", "level", "message"]
    var pairs: [(key: String, value: JSONValue)] = [
      ("time", .string(time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))),
      ("level", .string(level.rawValue)), ("message", .string(message)),
    ]
    for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
      pairs.append((own.contains(key) ? "_\(key)" : key, .string("\(value)")))
    }
    return String(decoding: JSONValue.object(JSONObject(keepingFirst: pairs)).encoded, as: UTF8.self)
  }
}

/// Writes each event to standard error as the line that a closure makes of it.
private struct LineLogHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.info
  private let line: @Sendable (LogEvent, Logger.Metadata, Date) -> String

  init(_ line: @escaping @Sendable (LogEvent, Logger.Metadata, Date) -> String) { self.line = line }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  /// One write for each line, so that the lines of several threads do not mix.
  func log(event: LogEvent) { writeError(line(event, metadata, Date())) }
}
