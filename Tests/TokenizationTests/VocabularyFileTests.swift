import Formats
import Foundation
import Testing

@testable import Tokenization

/// A GGUF file that holds a tokenizer and no tensors, of whatever architecture.
@Suite struct VocabularyFileTests {
  private struct Writer {
    var bytes: [UInt8] = []

    mutating func add(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { bytes += $0 } }

    mutating func add(_ text: String) {
      add(UInt64(text.utf8.count))
      bytes += text.utf8
    }

    mutating func add(_ key: String, _ text: String) {
      add(key)
      add(UInt32(8))
      add(text)
    }

    mutating func add(_ key: String, _ integers: [Int32]) {
      add(key)
      add(UInt32(9))
      add(UInt32(5))
      add(UInt64(integers.count))
      for integer in integers { add(integer) }
    }

    mutating func add(_ key: String, _ texts: [String]) {
      add(key)
      add(UInt32(9))
      add(UInt32(8))
      add(UInt64(texts.count))
      for text in texts { add(text) }
    }
  }

  /// A file that does not say how text is split has llama.cpp's default: digits in threes, which GPT-2's pattern does not have.
  @Test(
    arguments: [("default", [2, 1, 0, 4, 3, 3]), (nil, [2, 1, 0, 4, 3, 3]), ("gpt-2", [2, 1, 0, 4, 4])]
      as [(String?, [Int32])])
  func itsTokenizerIsRead(split: String?, ids: [Int32]) throws {
    var writer = Writer(bytes: Array("GGUF".utf8))
    writer.add(UInt32(3))
    writer.add(UInt64(0))
    writer.add(UInt64(split == nil ? 5 : 6))
    writer.add("general.architecture", "qwen2moe")
    writer.add("tokenizer.ggml.model", "gpt2")
    if let split { writer.add("tokenizer.ggml.pre", split) }
    writer.add("tokenizer.ggml.tokens", ["a", "b", "ab", "1", "11"])
    writer.add("tokenizer.ggml.merges", ["a b", "1 1"])
    writer.add("tokenizer.ggml.token_type", [1, 1, 1, 1, 1])
    let url = FileManager.default.temporaryDirectory.appending(path: "vocabulary-\(UUID().uuidString).gguf")
    try Data(writer.bytes).write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    let source = try openTokenizer(at: url)
    #expect(source.notes.isEmpty == (split != nil))
    #expect(try Tokenizer(source, name: "vocabulary").encode("abba1111", parsingSpecialTokens: true) == ids)
    // As a model it is refused.
    #expect(throws: ModelError.self) { try openPublishedModel(at: url) }
  }
}
