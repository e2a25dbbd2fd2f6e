import Formats
import CPCRE2

/// A regular expression out of an adapter's configuration, matched as Python's `re` would.
///
/// PCRE2 matches it, under limits, since the configuration may be a stranger's. For the syntax that occurs in module
/// patterns PCRE2 and `re` agree, `(?P<name>…)` included, which Swift's `Regex` does not read.
struct PythonPattern {
  enum Anchoring {
    /// `re.match`
    case start
    /// `re.fullmatch`
    case both
  }

  /// Frees the compiled pattern when nothing uses it any more.
  private final class Code {
    let pointer: OpaquePointer
    init(_ pointer: OpaquePointer) { self.pointer = pointer }
    deinit { pcre2_code_free_8(pointer) }
  }

  private static let lengthLimit = 8192
  /// Backtracking steps for one name; names are short.
  private static let stepLimit: UInt32 = 5000

  private let code: Code
  private let subject: [String]

  /// - Parameters:
  ///   - file: what errors name, with the field
  /// - Throws: `ModelError` for a pattern that is too long or does not compile
  init(_ pattern: String, anchoring: Anchoring, file: String, field: String) throws {
    subject = [file, field]
    guard pattern.utf8.count <= Self.lengthLimit else {
      throw ModelError(file, field, reason: "a pattern of more than \(Self.lengthLimit) bytes")
    }
    var options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_ANCHORED
    if anchoring == .both { options |= PCRE2_ENDANCHORED }
    var error: Int32 = 0
    var errorOffset = 0
    let bytes = Array(pattern.utf8)
    guard let pointer = pcre2_compile_8(bytes, bytes.count, options, &error, &errorOffset, nil) else {
      throw ModelError(file, field, reason: "not a regular expression (at byte \(errorOffset))")
    }
    code = Code(pointer)
  }

  /// - Returns: whether the pattern matches, and what its group "idx" holds
  /// - Throws: `ModelError` for a pattern that takes too many steps
  func match(_ text: String) throws -> (matches: Bool, index: String?) {
    guard let data = pcre2_match_data_create_from_pattern_8(code.pointer, nil),
      let context = pcre2_match_context_create_8(nil)
    else { throw ModelError(subject[0], subject[1], reason: "out of memory") }
    defer {
      pcre2_match_data_free_8(data)
      pcre2_match_context_free_8(context)
    }
    pcre2_set_match_limit_8(context, Self.stepLimit)
    pcre2_set_depth_limit_8(context, Self.stepLimit)
    let bytes = Array(text.utf8)
    let result = pcre2_match_8(code.pointer, bytes, bytes.count, 0, 0, data, context)
    if result == PCRE2_ERROR_NOMATCH { return (false, nil) }
    guard result >= 0 else { throw ModelError(subject[0], subject[1], reason: "the pattern takes too long to match") }
    var start: UnsafeMutablePointer<UInt8>?
    var length = 0
    guard pcre2_substring_get_byname_8(data, "idx", &start, &length) == 0, let start else { return (true, nil) }
    defer { pcre2_substring_free_8(start) }
    return (true, String(decoding: UnsafeBufferPointer(start: start, count: length), as: UTF8.self))
  }
}
