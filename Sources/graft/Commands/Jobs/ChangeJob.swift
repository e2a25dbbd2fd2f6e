import ArgumentParser
import Client
import Formats
import Serve

/// A command that changes a job on a server or in a folder, and prints the job's new status.
struct ChangeJob<Kind: JobChange>: ParsableCommand {
  static var configuration: CommandConfiguration {
    CommandConfiguration(
      commandName: Kind.change.rawValue, abstract: Kind.abstract,
      usage: "graft jobs \(Kind.change.rawValue) [<options>] <id>")
  }

  @OptionGroup var installation: InstallationOptions

  @Argument(help: "The job's id.") var id: String

  func run() throws {
    let job =
      switch try installation.open() {
      case .server(let client): try client.change(id, Kind.change.rawValue)
      case .folder(let folder, let database):
        try StoredJobs(folder: folder, database: database).apply(Kind.change, to: id)
      }
    print("\(id)\t\(job["status"]?.string ?? "")")
  }
}

/// What a `ChangeJob` does.
protocol JobChange {
  static var change: StoredJobs.Change { get }
  static var abstract: String { get }
}

enum Pause: JobChange {
  static let change = StoredJobs.Change.pause
  static let abstract = "Stops a job so that it can go on later; its state is saved."
}

enum Resume: JobChange {
  static let change = StoredJobs.Change.resume
  static let abstract = "Lets a paused job go on."
}

enum Cancel: JobChange {
  static let change = StoredJobs.Change.cancel
  static let abstract = "Ends a job for good."
}
