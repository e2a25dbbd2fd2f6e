import Tokenization
import Formats
import ArgumentParser
import Foundation
import Model

/// The option of every command that renders chats.
struct ChatTemplateOptions: ParsableArguments {
  @Option(help: "A file with a chat template (Jinja), in the place of the model's own.")
  var chatTemplate: String = ""

  private static let largestTemplate = 4 << 20

  /// The format that `--chat-template` gives, or the model's own.
  /// - Parameter name: the model's, for errors
  /// - Returns: the error of the model's own template, which may be missing or wrong, as a failure
  /// - Throws: `ModelError` if the file of `--chat-template` cannot be read or is not understood
  func format(_ tokenizer: Tokenizer, name: String) throws -> Result<ChatFormat, ModelError> {
    guard !chatTemplate.isEmpty else {
      return Result { () throws(ModelError) in try ChatFormat(tokenizer, name: name) }.mapError { error in
        guard error == .noChatTemplate(name) else { return error }
        return ModelError(name, reason: error.reason + "; give one with --chat-template")
      }
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
