import Formats
import ArgumentParser
import Foundation
import Model
import Serve

/// The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
@main
struct Graft: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graft",
    abstract: "Serves one Llama-family model with many LoRA adapters on a CPU.",
    discussion: """
      One NF4-quantised base stays in memory; every request names the adapters it wants, and they are applied beside
      the base, never merged into it. Every flag can also be given as an environment variable: GRAFT_ and the flag's
      name in capitals, with _ for -, as in GRAFT_DATA_DIR for --data-dir.
      """,
    version: graftVersion,
    subcommands: [
      ServeCommand.self, PrepareCommand.self, GenerateCommand.self, ChatCommand.self, TrainCommand.self,
      TokenizeCommand.self,
      BenchCommand.self, AdaptersCommand.self,
    ])

  static func main() {
    MappedFile.exitOnBusError()
    var parsed: (any ParsableCommand)?
    do {
      var command = try parseAsRoot()
      parsed = command
      try command.run()
    } catch {
      // Of an error that comes while a command runs, only the command is known here.
      if let command = parsed, let usage = error as? ValidationError {
        writeError("Error: \(usage.message)\n\(usageString(for: type(of: command)))")
        Foundation.exit(2)
      }
      let code = exitCode(for: error)
      if code == .success {
        print(fullMessage(for: error))
        Foundation.exit(0)
      }
      if code == .validationFailure {
        writeError(fullMessage(for: error))
        Foundation.exit(2)
      }
      if !(error is ExitCode) { writeError("graft: \(error)") }
      Foundation.exit(error is ExitCode ? code.rawValue : 1)
    }
  }
}

/// The command was stopped with Ctrl-C.
extension ExitCode {
  static let interrupted = ExitCode(130)
}

func writeError(_ text: String) {
  FileHandle.standardError.write(Data((text + "\n").utf8))
}

/// A flag's default out of its environment variable.
/// An unreadable value ends the program with usage's exit code, naming the variable.
func environment<Value: ExpressibleByArgument>(_ name: String) -> Value? {
  guard let text = ProcessInfo.processInfo.environment["GRAFT_" + name] else { return nil }
  guard let value = Value(argument: text) else {
    writeError("graft: GRAFT_\(name): '\(text)' is not a valid value")
    Foundation.exit(2)
  }
  return value
}

/// A repeatable flag's default out of its environment variable, whose values are joined by commas.
func environmentList(_ name: String) -> [String] {
  ProcessInfo.processInfo.environment["GRAFT_" + name].map { [$0] } ?? []
}

/// A number of bytes: digits and KiB, MiB or GiB.
struct ByteSize: ExpressibleByArgument {
  let bytes: Int

  init(bytes: Int) { self.bytes = bytes }

  init?(argument: String) {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)]
    let unit = units.first { argument.hasSuffix($0.0) }
    let digits = unit == nil ? Substring(argument) : argument.dropLast(3)
    guard let count = Int(digits), count > 0 else { return nil }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << (unit?.1 ?? 0))
    if overflow { return nil }
    self.bytes = bytes
  }

  var defaultValueDescription: String {
    bytes % (1 << 30) == 0 ? "\(bytes >> 30)GiB" : "\(bytes >> 20)MiB"
  }
}
