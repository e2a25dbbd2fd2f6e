import ArgumentParser
import Client
import Formats
import Foundation
import Serve

struct JobsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs",
    abstract: "Lists, follows, pauses, resumes, cancels and downloads fine-tuning jobs.",
    discussion: """
      With --url the commands work on a running server, here or elsewhere. Without it they work on the data folder, \
      which no server may use meanwhile; jobs go on when a server uses it again.
      """,
    subcommands: [
      ListJobs.self, FollowJob.self, PauseJob.self, ResumeJob.self, CancelJob.self, DownloadJob.self,
    ])
}

struct ListJobs: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the jobs, the newest first.",
    usage: "graft jobs list [<options>]",
    discussion: """
      On a terminal this is a table. In a pipe there is one line for each job, with tabs between its parts: id, status, \
      time of creation (seconds since 1970), model, resulting adapter, error.
      """)

  @OptionGroup var installation: InstallationOptions

  @OptionGroup var output: JSONOption

  func run() throws {
    let jobs: [JSONValue] =
      switch try installation.open() {
      case .server(let client): try client.jobs()
      case .folder(let folder, let database): try StoredJobs(folder: folder, database: database).all()
      }
    if output.json { return JSONValue.array(jobs).printed() }
    let terminal = Terminal.output
    if terminal.isTerminal, jobs.isEmpty {
      return print("There are no jobs. 'graft train', or POST /v1/fine_tuning/jobs, trains an adapter.")
    }
    let text = Self.text(jobs, for: terminal, now: Date().timeIntervalSince1970)
    if !text.isEmpty { print(text) }
  }

  static func text(_ jobs: [JSONValue], for terminal: Terminal, now: Double) -> String {
    var table = TextTable(
      terminal.isTerminal
        ? [
          .init(title: "JOB"), .init(title: "STATUS"), .init(title: "CREATED"), .init(title: "LEFT", isNumber: true),
          .init(title: "RESULT", canBeCut: true),
        ] : ["id", "status", "created", "model", "result", "error"].map { .init(title: $0) })
    for job in jobs {
      let status = job["status"]?.string ?? ""
      let created = job["created_at"]?.integer ?? 0
      let result = job["fine_tuned_model"]?.string
      let error = job["error"]?["message"]?.string
      if terminal.isTerminal {
        let left = status == "running" ? job["estimated_finish"]?.double.map { Quantity.time($0 - now) } : nil
        table.add([
          .init(job["id"]?.string ?? "", .bold), .init(status, style(status)), .init(Quantity.date(created)),
          .init(left ?? "–"), .init(result ?? error ?? "–", error == nil ? nil : .bad),
        ])
      } else {
        table.add(
          [job["id"]?.string, status, "\(created)", job["model"]?.string, result, error].map { .init($0 ?? "") })
      }
    }
    return table.text(for: terminal)
  }

  private static func style(_ status: String) -> Terminal.Style? {
    switch status {
    case "succeeded": .good
    case "failed": .bad
    case "running": .accent
    case "paused": .warning
    default: .faint
    }
  }
}

/// Runs a change of a job on a server or in a folder, and prints the job's new status.
private func change(_ id: String, _ change: StoredJobs.Change, _ options: InstallationOptions) throws {
  let job =
    switch try options.open() {
    case .server(let client): try client.change(id, change.rawValue)
    case .folder(let folder, let database): try StoredJobs(folder: folder, database: database).apply(change, to: id)
    }
  print("\(id)\t\(job["status"]?.string ?? "")")
}

struct PauseJob: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Stops a job so that it can go on later; its state is saved.",
    usage: "graft jobs pause [<options>] <id>")

  @OptionGroup var installation: InstallationOptions

  @Argument(help: "The job's id.") var id: String

  func run() throws { try change(id, .pause, installation) }
}

struct ResumeJob: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Lets a paused job go on.",
    usage: "graft jobs resume [<options>] <id>")

  @OptionGroup var installation: InstallationOptions

  @Argument(help: "The job's id.") var id: String

  func run() throws { try change(id, .resume, installation) }
}

struct CancelJob: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel", abstract: "Ends a job for good.",
    usage: "graft jobs cancel [<options>] <id>")

  @OptionGroup var installation: InstallationOptions

  @Argument(help: "The job's id.") var id: String

  func run() throws { try change(id, .cancel, installation) }
}
