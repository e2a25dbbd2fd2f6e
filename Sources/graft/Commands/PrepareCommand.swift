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
      """)

  @OptionGroup var options: ModelOptions

  func validate() throws { try options.requireModel() }

  func run() throws {
    let source = try openPublishedModel(at: options.modelURL)
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
}
