/// Plain text: characters that stand for themselves wherever texts are written, as in JSON strings. These are all but quotation marks,
/// backslashes and control characters, in UTF-8.
///
/// Most tokens are plain text, and most states of grammars allow either any plain text or none. So the tokens of plain text are
/// allowed or not all at once, by their number of characters.
enum PlainText {
  /// The states of reading UTF-8: 0 between characters, the others within one. For each the bytes that may follow, and the state
  /// after them.
  static let steps: [[(bytes: ClosedRange<UInt8>, next: Int)]] = [
    [
      (0x20...0x21, 0), (0x23...0x5B, 0), (0x5D...0x7F, 0), (0xC2...0xDF, 1), (0xE0...0xE0, 4), (0xE1...0xEC, 2),
      (0xED...0xED, 5), (0xEE...0xEF, 2), (0xF0...0xF0, 6), (0xF1...0xF3, 3), (0xF4...0xF4, 7),
    ],
    [(0x80...0xBF, 0)], [(0x80...0xBF, 1)], [(0x80...0xBF, 2)], [(0xA0...0xBF, 1)], [(0x80...0x9F, 1)],
    [(0x90...0xBF, 2)], [(0x80...0x8F, 2)],
  ]

  /// The number of characters of plain text; `nil` for other bytes.
  static func length(_ bytes: [UInt8]) -> Int? {
    var state = 0
    var count = 0
    for byte in bytes {
      guard let step = steps[state].first(where: { $0.bytes.contains(byte) }) else { return nil }
      state = step.next
      if state == 0 { count += 1 }
    }
    return state == 0 ? count : nil
  }

  /// The same for texts of ASCII letters. Many states allow these but not all plain text, such as names and addresses.
  static let letterSteps: [[(bytes: ClosedRange<UInt8>, next: Int)]] = [[(0x41...0x5A, 0), (0x61...0x7A, 0)]]

  /// Whether all bytes are ASCII letters.
  static func isLetters(_ bytes: [UInt8]) -> Bool {
    bytes.allSatisfy { byte in letterSteps[0].contains { $0.bytes.contains(byte) } }
  }

  /// For each state of reading characters the classes of bytes that may follow, each once for each next state.
  static func steps(
    _ steps: [[(bytes: ClosedRange<UInt8>, next: Int)]], _ classes: [UInt8]
  ) -> [[(byteClass: Int, next: Int)]] {
    steps.map { steps in
      var result: [(byteClass: Int, next: Int)] = []
      for step in steps {
        for byte in step.bytes {
          let byteClass = Int(classes[Int(byte)])
          if !result.contains(where: { $0 == (byteClass, step.next) }) { result.append((byteClass, step.next)) }
        }
      }
      return result
    }
  }
}
