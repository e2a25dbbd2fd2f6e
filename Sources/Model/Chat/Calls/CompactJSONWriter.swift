import Formats

/// Writes a JSON object or array, while it comes, as `JSONValue.encoded` would write the whole. Only what is not complete is held
/// back: an escape, a number, a word. The text must be JSON. Keys that an object has twice are written twice.
struct CompactJSONWriter: Sendable {
  /// Whether the value has ended.
  private(set) var isComplete = false
  /// Brackets and braces that are open.
  private var depth = 0
  private var isInString = false
  /// The beginning of what is not complete.
  private var held: [UInt8] = []

  /// Adds bytes of the text.
  /// - Parameter output: gets what can be written by now; whole characters, if those that were added are
  /// - Returns: how many of the bytes belong to the value
  mutating func add(_ bytes: some Collection<UInt8>, to output: inout [UInt8]) -> Int {
    var count = 0
    for byte in bytes {
      if isComplete { break }
      count += 1
      if isInString { addToString(byte, &output) } else { addToStructure(byte, &output) }
    }
    return count
  }

  private mutating func addToString(_ byte: UInt8, _ output: inout [UInt8]) {
    switch byte {
    case _ where !held.isEmpty:
      held.append(byte)
      if isWholeEscape { writeEscape(&output) }
    case UInt8(ascii: "\\"): held.append(byte)
    case UInt8(ascii: "\""):
      output.append(byte)
      isInString = false
    // `encoded` escapes it.
    case 0x7F: JSONValue.escape("\u{7F}", into: &output)
    default: output.append(byte)
    }
  }

  private mutating func addToStructure(_ byte: UInt8, _ output: inout [UInt8]) {
    switch byte {
    case 0x20, 0x09, 0x0A, 0x0D: writeHeld(&output)
    case UInt8(ascii: "\""):
      output.append(byte)
      isInString = true
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      output.append(byte)
      depth += 1
    case UInt8(ascii: "}"), UInt8(ascii: "]"):
      writeHeld(&output)
      output.append(byte)
      depth -= 1
      isComplete = depth == 0
    case UInt8(ascii: ","), UInt8(ascii: ":"):
      writeHeld(&output)
      output.append(byte)
    default: held.append(byte)
    }
  }

  /// Whether the held bytes are an escape, of a surrogate pair both halves.
  private var isWholeEscape: Bool {
    guard held.count > 1, held[1] == UInt8(ascii: "u") else { return held.count == 2 }
    guard held.count >= 6, let code = UInt16(String(decoding: held[2..<6], as: UTF8.self), radix: 16) else {
      return held.count >= 6
    }
    return UTF16.isLeadSurrogate(code) ? held.count == 12 : true
  }

  /// Writes the escaped character as `encoded` does.
  private mutating func writeEscape(_ output: inout [UInt8]) {
    let quote = UInt8(ascii: "\"")
    let text = (try? JSONValue.parse([quote] + held + [quote], subject: "escape"))?.string
    if let text { JSONValue.escape(text, into: &output) } else { output += held }
    held.removeAll(keepingCapacity: true)
  }

  /// Writes a number or a word, which has ended.
  private mutating func writeHeld(_ output: inout [UInt8]) {
    if held.isEmpty { return }
    output += (try? JSONValue.parse(held, subject: "value"))?.encoded ?? held
    held.removeAll(keepingCapacity: true)
  }
}
