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
      One NF4-quantised base stays in memory; every request names the adapters it wants, and they are applied beside \
      the base, never merged into it.

      Weights are not downloaded: --model names a GGUF file or a Hugging Face folder that you have. In a clone of the \
      project, 'make model' fetches a small one.
      """,
    version: graftVersion,
    subcommands: [
      ServeCommand.self, PrepareCommand.self, GenerateCommand.self, ChatCommand.self, TrainCommand.self,
      TokenizeCommand.self, BenchCommand.self, AdaptersCommand.self, JobsCommand.self, ConfigCommand.self,
      DoctorCommand.self, BackupCommand.self, RestoreCommand.self, SweepCommand.self, ExportCommand.self,
      ManualCommand.self,
    ])

  /// The command line, with the options that environment variables and the config file give.
  static let commandLine = Result {
    var arguments = Array(CommandLine.arguments.dropFirst())
    let environment = ProcessInfo.processInfo.environment
    let path = try EnvironmentArguments.takeConfig(from: &arguments) ?? environment["GRAFT_CONFIG"]
    let isHelp = arguments.contains { $0 == "-h" || $0 == "--help" }
    let file = isHelp ? nil : try ConfigFile.find(path.flatMap { $0.isEmpty ? nil : $0 }, environment: environment)
    return try EnvironmentArguments(arguments, environment: environment, file: file, root: Graft.self)
  }

  static func main() {
    MappedFile.exitOnBusError()
    var parsed: (any ParsableCommand)?
    do {
      var command = try parseAsRoot(commandLine.get().arguments)
      parsed = command
      try command.run()
      endProcess(0)
    } catch {
      // An error that is thrown while a command runs does not name the command.
      if let command = parsed, let usage = error as? ValidationError {
        fail("Error: \(usage.message)\n\(usageString(for: type(of: command)))", code: 2)
      }
      let code = exitCode(for: error)
      switch code {
      case .success:
        let text = fullMessage(for: error)
        if text == graftVersion {
          do { print(VersionReport.text(try KernelOptions.set(commandLine.get().value(of: "kernels")))) } catch {
            fail("Error: \(error)", code: 2)
          }
        } else {
          print(text.contains("USAGE: graft") ? text + "\n" + environmentHelp : text)
        }
        endProcess(0)
      case .validationFailure: fail(fullMessage(for: error), code: 2)
      default: break
      }
      if error is ExitCode { endProcess(code.rawValue) }
      fail("graft: \((error as? UnrecordedContentsError)?.advice ?? "\(error)")", code: 1)
    }
  }

  /// The end of every command's help.
  private static let environmentHelp = """
    SETTINGS:
      Every option and flag can also be given as a variable: GRAFT_ and its name
      in capitals, with _ for -, as in GRAFT_DATA_DIR for --data-dir. A flag's
      variable is on or off. A YAML file can have them under their long names:
      --config FILE, GRAFT_CONFIG, or ~/.config/graft/config.yaml. The command
      line goes before variables, these go before the file. 'graft config
      COMMAND' prints what holds.

    EXIT CODES:
      0 done, 1 failed, 2 wrong usage, 130 interrupted

    """

  /// Ends the program with an error. If the error names options that environment variables gave, these are named too.
  static func fail(_ text: String, code: Int32) -> Never {
    writeError((try? commandLine.get().explaining(text)) ?? text)
    endProcess(code)
  }
}

extension ExitCode {
  /// The exit code of a command that Ctrl-C has stopped.
  static let interrupted = ExitCode(130)
}

/// Writes a line to standard error.
func writeError(_ text: String) {
  FileHandle.standardError.write(Data((text + "\n").utf8))
}
