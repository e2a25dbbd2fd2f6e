import Tokenization
import Formats
import ArgumentParser
import Foundation
import Model

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Reads text from standard input and prints its token ids as a JSON list.",
    discussion: "Special tokens such as <|im_start|> are parsed; --text takes them as plain text.")

  @Option(help: "The base: a GGUF file, or a folder with tokenizer.json.")
  var model: String = ""

  @Flag(help: "Take special tokens as plain text.")
  var text = false

  func validate() throws {
    guard !model.isEmpty else { throw ValidationError("--model is missing: give a GGUF file or a model folder") }
  }

  func run() throws {
    let url = URL(filePath: model)
    let source = try openTokenizer(at: url)
    for note in source.notes { writeError("\(modelStem(of: url)): \(note)") }
    let tokenizer = try Tokenizer(source, name: model)
    let bytes = FileHandle.standardInput.readDataToEndOfFile()
    guard let input = String(validating: bytes, as: UTF8.self) else {
      throw ModelError("standard input", reason: "not valid UTF-8")
    }
    let ids = tokenizer.encode(input, parsingSpecialTokens: !text, addingBOS: false)
    print("[" + ids.map(String.init).joined(separator: ", ") + "]")
  }
}
