import ArgumentParser
import Client
import Formats
import Foundation
import Serve
import Synchronization

struct FollowJob: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "follow", abstract: "Shows a job's loss and the time left until the job is over.",
    usage: "graft jobs follow [<options>] <id>",
    discussion: """
      On a terminal the newest step is one line that changes. In a pipe each event is a line; with --json each is the \
      event's JSON. The exit code is 1 if the job failed or was cancelled. In a data folder, where nothing trains, the \
      recorded events are shown.
      """)

  @OptionGroup var installation: InstallationOptions

  @OptionGroup var output: JSONOption

  @Argument(help: "The job's id.") var id: String

  func run() throws {
    let line = Mutex(JobLine(terminal: .output))
    let isJSON = output.json
    let show: @Sendable (JSONValue) -> Void = { event in
      if isJSON {
        event.printed()
      } else {
        FileHandle.standardOutput.write(Data(line.withLock { $0.text(event) }.utf8))
      }
    }
    let job: JSONValue
    switch try installation.open() {
    case .server(let client):
      try client.follow(id, receive: show)
      job = try client.job(id)
    case .folder(let folder, let database):
      let jobs = StoredJobs(folder: folder, database: database)
      for event in try jobs.events(of: id) { show(event) }
      job = try jobs.job(id)
    }
    if !isJSON { FileHandle.standardOutput.write(Data(line.withLock { $0.end }.utf8)) }
    try end(job)
  }

  private func end(_ job: JSONValue) throws {
    switch job["status"]?.string ?? "" {
    case "succeeded":
      if !output.json, let name = job["fine_tuned_model"]?.string {
        writeError("The adapter serves as \(name); 'graft jobs download \(id) FOLDER' saves it.")
      }
    case "failed":
      throw ModelError(id, reason: "failed: \(job["error"]?["message"]?.string ?? "no reason was recorded")")
    case "cancelled": throw ModelError(id, reason: "was cancelled")
    case let status:
      writeError("The job is \(status). It trains while a server uses the folder; follow it there with --url.")
    }
  }
}

/// A job's events as text: on a terminal, steps change one line.
struct JobLine {
  let terminal: Terminal
  /// The step and the time of the first step, from which the speed is computed.
  private var first: (step: Int, time: Int)?
  /// Whether the last line is one that changes.
  private var isOpen = false

  init(terminal: Terminal) { self.terminal = terminal }

  /// What to write for an event.
  mutating func text(_ event: JSONValue) -> String {
    let clear = isOpen ? "\r\u{1B}[K" : ""
    let data = event["data"]
    guard event["type"]?.string == "metrics", let step = data?["step"]?.integer,
      let loss = data?["train_loss"]?.double
    else {
      isOpen = false
      let style: Terminal.Style? =
        switch event["level"]?.string {
        case "warn": .warning
        case "error": .bad
        default: nil
        }
      return clear + terminal.styled(Terminal.harmless(event["message"]?.string ?? ""), style) + "\n"
    }
    let all = data?["total_steps"]?.integer ?? step
    var text = "step \(step)/\(all)  loss \(String(format: "%.4f", loss))"
    if let accuracy = data?["train_mean_token_accuracy"]?.double {
      text += String(format: "  accuracy %.0f %%", accuracy * 100)
    }
    if let left = left(step, all, event["created_at"]?.integer ?? 0) { text += "  \(left) left" }
    guard terminal.isTerminal else { return text + "\n" }
    isOpen = true
    return "\r\u{1B}[K" + terminal.styled(Quantity.bar(step, of: all), .accent) + " " + text
  }

  /// What to write after the last event.
  var end: String { isOpen ? "\n" : "" }

  private mutating func left(_ step: Int, _ all: Int, _ time: Int) -> String? {
    // The speed is that since `first`. An event with a lower step, after a rollback, starts a new measurement.
    guard let first, step > first.step, time > first.time else {
      if first == nil || step <= (first?.step ?? 0) { first = (step, time) }
      return nil
    }
    return Quantity.time(Double(time - first.time) / Double(step - first.step) * Double(all - step))
  }
}
