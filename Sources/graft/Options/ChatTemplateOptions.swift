import Tokenization
import Formats
import ArgumentParser
import Foundation
import Model

/// The flag of every command that renders chats.
struct ChatTemplateOptions: ParsableArguments {
  @Option(help: "A file with a chat template (Jinja), in the place of the model's own.")
  var chatTemplate: String = environment("CHAT_TEMPLATE") ?? ""

  private static let largestTemplate = 4 << 20

  /// The format of `--chat-template`, which must be right, or the model's own, which may be missing or wrong.
  /// - Parameter name: the model's, for errors
  func format(_ tokenizer: Tokenizer, name: String) throws -> Result<ChatFormat, ModelError> {
    guard !chatTemplate.isEmpty else {
      return Result { () throws(ModelError) in try ChatFormat(tokenizer, name: name) }
    }
    let handle: FileHandle
    do { handle = try FileHandle(forReadingFrom: URL(filePath: chatTemplate)) } catch {
      throw ModelError(chatTemplate, reason: "cannot be read: \(error.localizedDescription)")
    }
    let data = try handle.read(upToCount: Self.largestTemplate + 1) ?? Data()
    guard data.count <= Self.largestTemplate, let text = String(validating: data, as: UTF8.self) else {
      throw ModelError(chatTemplate, reason: "is no UTF-8 text of at most \(Self.largestTemplate) bytes")
    }
    return .success(try ChatFormat(tokenizer, template: text, name: chatTemplate))
  }
}
