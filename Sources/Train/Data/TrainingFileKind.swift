import Formats
import Foundation
import Model

/// Finds out from a file's beginning whether it is JSONL. A file that is not gets one error, which says what it is and
/// how to convert it, instead of one error for each line.
enum TrainingFileKind {
  /// Bytes that are looked at.
  private static let headSize = 1 << 20
  private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

  /// What files of other formats begin with.
  private static let signatures: [(bytes: [UInt8], reason: String)] = [
    ([0xFF, 0xFE, 0, 0], utf("UTF-32")), ([0, 0, 0xFE, 0xFF], utf("UTF-32")), ([0xFF, 0xFE], utf("UTF-16")),
    ([0xFE, 0xFF], utf("UTF-16")),
    ([0x1F, 0x8B], "is compressed with gzip; unpack it: gunzip FILE.gz"),
    ([0x28, 0xB5, 0x2F, 0xFD], "is compressed with zstd; unpack it: unzstd FILE.zst"),
    (Array("BZh".utf8), "is compressed with bzip2; unpack it: bunzip2 FILE.bz2"),
    ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "is compressed with xz; unpack it: unxz FILE.xz"),
    ([0x50, 0x4B, 3, 4], "is a zip archive; unpack it, and give the JSONL file inside"),
    (
      Array("PAR1".utf8),
      "is a Parquet file; convert it: "
        + #"python3 -c 'import pandas; pandas.read_parquet("FILE").to_json("NEW.jsonl", orient="records", lines=True)'"#
    ),
    (Array("ARROW1".utf8), "is an Arrow file; convert it with the datasets library: Dataset.to_json(\"NEW.jsonl\")"),
    (Array("version https://git-lfs".utf8), "is a Git LFS pointer; run git lfs pull"),
  ]

  private static func utf(_ name: String) -> String {
    "is \(name) text; convert it to UTF-8: iconv -f \(name) -t UTF-8 FILE > NEW.jsonl"
  }

  /// The fields by which an object is recognised as a row.
  private static let fieldsOfRows: Set<String> = [
    "messages", "conversations", "prompt", "completion", "chosen", "rejected", "input", "preferred_output",
    "non_preferred_output", "instruction", "output", "text", "tokens",
  ]

  private static let rows = "JSONL has one JSON object on each line"

  /// - Parameter name: what errors call the file
  /// - Returns: where the first line begins: after a byte order mark, if the file has one
  /// - Throws: `DataFileError` for a file that is no JSONL, `ModelError` if it cannot be read
  static func firstLine(_ file: MappedFile, name: String) throws -> Int {
    let head = try file.read(offset: 0, count: min(headSize, file.count))
    if let reason = reason(head, isWhole: head.count == file.count) { throw DataFileError(file: name, reason: reason) }
    return head.starts(with: byteOrderMark) ? byteOrderMark.count : 0
  }

  /// Why a file with this beginning is not JSONL; `nil` if it may be.
  private static func reason(_ head: [UInt8], isWhole: Bool) -> String? {
    if let known = signatures.first(where: { head.starts(with: $0.bytes) }) { return known.reason }
    let text = head.starts(with: byteOrderMark) ? head.dropFirst(byteOrderMark.count) : head[...]
    guard let first = text.firstIndex(where: { !isSpace($0) }) else {
      return isWhole ? "is empty; \(rows)" : nil
    }
    // In UTF-16 without a byte order mark, every other byte of an ASCII character is zero.
    if text.prefix(64).contains(0) {
      return text.prefix(64).count { $0 == 0 } >= text.prefix(64).count / 4 ? utf("UTF-16") : "is no text; \(rows)"
    }
    if let line = firstLineNotUTF8(text) {
      return "line \(line) is not UTF-8; if the file is Latin-1 or Windows-1252 text, convert it: "
        + "iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW.jsonl"
    }
    switch text[first] {
    case UInt8(ascii: "["):
      return "is a JSON array, not JSONL; convert it: jq -c '.[]' FILE > NEW.jsonl"
    case UInt8(ascii: "{"):
      if let key = rowsInside(text[first...]) {
        return "is a JSON object with the rows in '\(key)', not JSONL; convert it: jq -c '.\(key)[]' FILE > NEW.jsonl"
      }
      return isPrettyPrinted(text[first...])
        ? "is JSON over several lines, not JSONL; convert it: jq -c . FILE > NEW.jsonl" : nil
    default:
      return reason(noObject: text[first...])
    }
  }

  /// The number of the first line that is not UTF-8. Only complete lines are checked, since the last may be cut within
  /// a character.
  private static func firstLineNotUTF8(_ text: ArraySlice<UInt8>) -> Int? {
    guard String(validating: text, as: UTF8.self) == nil else { return nil }
    let lines = text.split(separator: 0x0A, omittingEmptySubsequences: false).dropLast()
    return lines.firstIndex { String(validating: $0, as: UTF8.self) == nil }.map { $0 + 1 }
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  /// The field of the file's first object that holds a list of rows; `nil` if the object is itself a row.
  private static func rowsInside(_ text: ArraySlice<UInt8>) -> String? {
    guard let end = objectEnd(text), let object = (try? JSONValue.parse(text[..<end], subject: "file"))?.object else {
      return nil
    }
    if object.keys.contains(where: fieldsOfRows.contains) { return nil }
    let fields = object.pairs.filter { pair in
      guard let list = pair.value.array else { return false }
      return !list.isEmpty && list.allSatisfy { $0.object != nil }
    }
    guard fields.count == 1, let key = fields.first?.key, key.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*/) != nil else {
      return nil
    }
    return key
  }

  /// Whether the object that begins here extends over several lines.
  private static func isPrettyPrinted(_ text: ArraySlice<UInt8>) -> Bool {
    let line = text.prefix { $0 != 0x0A }
    if (try? JSONValue.parse(line, subject: "line")) != nil { return false }
    if line.dropFirst().allSatisfy(isSpace) { return true }
    guard let end = objectEnd(text), end > line.endIndex else { return false }
    return (try? JSONValue.parse(text[..<end], subject: "object")) != nil
  }

  /// Where the object that begins here ends, by its brackets.
  private static func objectEnd(_ text: ArraySlice<UInt8>) -> Int? {
    var (depth, isString, isEscaped) = (0, false, false)
    for (index, byte) in zip(text.indices, text) {
      if isEscaped {
        isEscaped = false
      } else if isString {
        if byte == UInt8(ascii: "\\") { isEscaped = true }
        if byte == UInt8(ascii: "\"") { isString = false }
      } else {
        switch byte {
        case UInt8(ascii: "\""): isString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
          depth -= 1
          if depth == 0 { return index + 1 }
        default: break
        }
      }
    }
    return nil
  }

  /// Why text that does not begin with a bracket is not JSONL. A damaged first line alone is not a reason: later lines
  /// may be right.
  private static func reason(noObject text: ArraySlice<UInt8>) -> String? {
    let lines = text.split(separator: 0x0A, maxSplits: 20).prefix(20)
    guard let line = lines.first, !lines.contains(where: { $0.first { !isSpace($0) } == UInt8(ascii: "{") }) else {
      return nil
    }
    let shown = String(decoding: line.prefix(60), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    let separators = [(",", ","), (";", ";"), ("\t", "\\t")]
    let used = separators.first { separator, _ in line.contains(separator.utf8.first ?? 0) }
    if let (_, spelled) = used, lines.count > 1 {
      return "is CSV, by its first line (\(shown)), not JSONL; convert it: "
        + #"python3 -c 'import csv,json; [print(json.dumps(r)) for r in csv.DictReader(open("FILE"), "#
        + #"delimiter="\#(spelled)")]' > NEW.jsonl"#
    }
    return "is no JSONL: it begins with '\(shown)', but \(rows)"
  }
}
