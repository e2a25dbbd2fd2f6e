import Formats
public import Tokenization
import Foundation
import Model

/// A byte-level BPE tokenizer with a token for each byte and a few words.
public enum TinyTokenizer {
  /// Ends a generation; its text is `<|end|>`.
  public static let endToken: Int32 = 0
  public static let endText = "<|end|>"
  static let firstByte = 1
  /// Each is made of two tokens that come before it, in GPT-2's alphabet.
  static let merges = [
    ("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("a", "n"), ("an", "d"), ("\u{120}", "the"),
    ("\u{120}", "a"), ("o", "n"), ("l", "l"), ("a", "a"), ("aa", "b"), ("\u{c3}", "\u{a9}"),
  ]

  /// How many ids the tokenizer knows.
  public static var count: Int { firstByte + 256 + merges.count }

  /// The token of a single byte.
  public static func token(_ byte: UInt8) -> Int32 { Int32(firstByte) + Int32(byte) }

  /// The same with further special tokens, whose ids follow the others.
  public static func with(specialTokens: [String], bos: String? = nil, eos: String? = nil) throws -> Tokenizer {
    let folder = FileManager.default.temporaryDirectory.appending(path: "tiny-tokenizer-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try write(to: folder, specialTokens: specialTokens, bos: bos, eos: eos ?? endText)
    return try Tokenizer(.huggingFace(folder), name: "tiny")
  }

  /// Writes tokenizer.json and tokenizer_config.json.
  static func write(
    to folder: URL, specialTokens: [String] = [], bos: String? = nil, eos: String = endText
  ) throws {
    var vocabulary: [String: Any] = [:]
    for byte in UInt8.min...UInt8.max { vocabulary[letter(byte)] = Int(token(byte)) }
    for (index, merge) in merges.enumerated() { vocabulary[merge.0 + merge.1] = firstByte + 256 + index }
    let byteLevel: [String: Any] = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    let special =
      [(endText, Int(endToken))] + specialTokens.filter { $0 != endText }.enumerated().map { ($1, count + $0) }
    let added: [[String: Any]] = special.map { text, id in
      [
        "id": id, "content": text, "special": true, "normalized": false, "lstrip": false, "rstrip": false,
        "single_word": false,
      ]
    }
    let document: [String: Any] = [
      "version": "1.0", "added_tokens": added, "pre_tokenizer": byteLevel, "decoder": byteLevel,
      "model": [
        "type": "BPE", "vocab": vocabulary.merging([endText: Int(endToken)]) { old, _ in old },
        "merges": merges.map { "\($0.0) \($0.1)" },
      ],
    ]
    try JSONSerialization.data(withJSONObject: document).write(to: folder.appending(path: "tokenizer.json"))
    var configuration: [String: Any] = ["eos_token": eos]
    if let bos { configuration["bos_token"] = bos }
    try JSONSerialization.data(withJSONObject: configuration)
      .write(to: folder.appending(path: "tokenizer_config.json"))
  }

  /// GPT-2's letter for a byte: itself where it is printable, else one from U+0100 on.
  private static func letter(_ byte: UInt8) -> String {
    func isPrintable(_ byte: UInt8) -> Bool {
      (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
    }
    if isPrintable(byte) { return String(UnicodeScalar(byte)) }
    let before = (0..<byte).count { !isPrintable($0) }
    return UnicodeScalar(UInt32(0x100 + before)).map { String($0) } ?? ""
  }
}
