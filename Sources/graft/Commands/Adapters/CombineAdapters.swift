public import ArgumentParser
import Client
import Formats
public import Model

struct CombineAdapters: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "combine", abstract: "Gives a weighted set of a server's adapters a name.",
    discussion: """
      The set becomes an adapter like any other, made of the versions that its members have now: "a:0.7,b:0.3" as \
      requests write it. The members must be plain LoRA.
      """)

  @OptionGroup var server: ServerOptions

  @Option(help: "cat, the exact sum; or linear, PEFT's sum of the factors.")
  var combination = WeightedSum.Combination.cat

  @Flag(help: "Keeps the adapter in the server's memory.")
  var pinned = false

  @Argument(help: "The name that requests will use.")
  var name: String

  @Argument(help: "The adapters with their weights.")
  var adapters: String

  func run() throws {
    guard let client = try server.client() else {
      throw ValidationError("adapters are combined by a server; give its --url")
    }
    let version = try client.combine(
      name: name, adapters: adapters, combination: combination.rawValue, pinned: pinned)["version"]?.integer
    print("\(name)@\(version ?? 0)")
  }
}

extension WeightedSum.Combination: ExpressibleByArgument {}
