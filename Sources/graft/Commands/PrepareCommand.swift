import Tokenization
import Formats
import ArgumentParser
import Foundation
import Kernels
import Model

struct PrepareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prepare",
    abstract: "Quantises a base to NF4 and writes it as one file that serve maps into memory.",
    discussion: """
      serve does this itself on first use. The file lies under --data-dir in bases/, named after the source's contents,
      and is made only once. No more than a few tensors are in memory at a time, whatever the model's size.
      --dry-run says what the base needs; for that, config.json is enough.
      """)

  @OptionGroup(title: "Model") var options: ModelOptions

  @Flag(help: "Only print what the base needs on the disk and in memory.")
  var dryRun = false

  func validate() throws { try options.requireModel() }

  func run() throws {
    if dryRun { return try printForecast() }
    let source = try openPublishedModel(at: options.modelURL)
    source.writeNotes(options.modelStem)
    // A model whose tokenizer cannot be read could not be served, so it is not prepared.
    _ = try Tokenizer(source.tokenizer, name: options.modelURL.path)
    let store = BaseStore(dataFolder: URL(filePath: options.dataDir))
    var bar = ProgressBar(title: "Preparing \(options.modelURL.lastPathComponent)")
    let prepared = try store.prepare(source, pool: ThreadPool(threads: options.arithmetic.threads)) {
      try bar.update($0)
    }
    bar.finish()
    print(prepared.location.path)
    writeError("fingerprint \(prepared.fingerprint), \(prepared.bytes / 1_000_000) MB")
  }

  private func printForecast() throws {
    let (config, storage) = try openConfiguration(at: options.modelURL)
    let context = try options.contextLength(config)
    let mode = options.arithmetic.compute
    let forecast = try BaseForecast(
      config, storage: storage, mode: mode, element: options.keyValue.element(mode), contextLength: context,
      threads: options.arithmetic.threads)
    func line(_ name: String, _ bytes: Int, _ note: String) {
      let size = String(format: "%.2f GiB", Double(bytes) / Double(1 << 30))
      print(name.padding(toLength: 12, withPad: " ", startingAt: 0) + size + "  " + note)
    }
    print("\(forecast.parameters) parameters, \(mode.rawValue), a context of \(context) tokens")
    line("disk", forecast.preparedBytes, "the prepared base, under \(options.dataDir)")
    line("memory", forecast.servingBytes, "while one sequence fills the context:")
    line("  weights", forecast.weightBytes, "read by every token")
    line("  cache", forecast.cacheBytes, "keys and values")
    line("  workspace", forecast.workspaceBytes, "buffers of a pass")
    if forecast.embeddingBytes > 0 {
      line("embedding", forecast.embeddingBytes, "mapped; a token reads its own row")
    }
    line("preparing", forecast.preparingBytes, "beyond the page cache")
  }
}
