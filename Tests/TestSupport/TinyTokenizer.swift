import Foundation

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

  /// Writes tokenizer.json and tokenizer_config.json.
  static func write(to folder: URL) throws {
    var vocabulary: [String: Any] = [:]
    for byte in UInt8.min...UInt8.max { vocabulary[letter(byte)] = Int(token(byte)) }
    for (index, merge) in merges.enumerated() { vocabulary[merge.0 + merge.1] = firstByte + 256 + index }
    let byteLevel: [String: Any] = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    let document: [String: Any] = [
      "version": "1.0",
      "added_tokens": [
        [
          "id": Int(endToken), "content": endText, "special": true, "normalized": false, "lstrip": false,
          "rstrip": false, "single_word": false,
        ]
      ],
      "pre_tokenizer": byteLevel, "decoder": byteLevel,
      "model": [
        "type": "BPE", "vocab": vocabulary.merging([endText: Int(endToken)]) { old, _ in old },
        "merges": merges.map { "\($0.0) \($0.1)" },
      ],
    ]
    try JSONSerialization.data(withJSONObject: document).write(to: folder.appending(path: "tokenizer.json"))
    let configuration: [String: Any] = ["eos_token": endText]
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
