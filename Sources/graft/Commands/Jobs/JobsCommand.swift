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
      ListJobs.self, FollowJob.self, ChangeJob<Pause>.self, ChangeJob<Resume>.self, ChangeJob<Cancel>.self,
      DownloadJob.self,
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
