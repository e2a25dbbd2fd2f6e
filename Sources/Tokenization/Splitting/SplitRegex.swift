import CPCRE2

/// A compiled split pattern for UTF-8 text, with Unicode properties; compiled to machine code where PCRE2 can.
///
/// `@unchecked Sendable`: the compiled code does not change after `init`, and PCRE2 lets threads share it.
final class SplitRegex: @unchecked Sendable {
  private let code: OpaquePointer

  /// The maximum of backtracking steps of a match.
  private static let matchLimit: UInt32 = 10_000_000
  private static let heapLimitKiB: UInt32 = 64 * 1024
  /// How many bytes from where it begins a search looks at first.
  static let window = 1024

  /// - Parameter pattern: in the syntax of Hugging Face's tokenizers (Oniguruma's Ruby syntax)
  /// - Throws: `SplitRegexError` for syntax that is wrong or not supported
  convenience init(_ pattern: String) throws(SplitRegexError) {
    try self.init(pcre2: try RegexTranslation.pcre2(pattern))
  }

  /// - Parameter pattern: in PCRE2's syntax
  init(pcre2 pattern: String) throws(SplitRegexError) {
    let translated = Array(pattern.utf8)
    guard let context = pcre2_compile_context_create_8(nil) else { throw SplitRegexError(reason: "out of memory") }
    defer { pcre2_compile_context_free_8(context) }
    pcre2_set_newline_8(context, UInt32(PCRE2_NEWLINE_LF))
    pcre2_set_parens_nest_limit_8(context, 50)
    var errorCode: Int32 = 0
    var errorOffset = 0
    let options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C
    let compiled = translated.withUnsafeBufferPointer {
      pcre2_compile_8($0.baseAddress, $0.count, options, &errorCode, &errorOffset, context)
    }
    guard let compiled else {
      var message = [UInt8](repeating: 0, count: 200)
      let length = pcre2_get_error_message_8(errorCode, &message, message.count)
      throw SplitRegexError(reason: String(decoding: message.prefix(max(0, Int(length))), as: UTF8.self))
    }
    code = compiled
    // If PCRE2 has no compiler for this machine, matching is interpreted: slower, with the same results.
    _ = pcre2_jit_compile_8(compiled, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD)
  }

  deinit { pcre2_code_free_8(code) }

  /// A lower bound of the characters of a match. (Only \K could make one shorter.)
  var shortestMatch: Int {
    var length: UInt32 = 0
    return pcre2_pattern_info_8(code, UInt32(PCRE2_INFO_MINLENGTH), &length) == 0 ? Int(length) : 0
  }

  /// The memory that a thread needs for matching. It can be used for any number of patterns, one after the other.
  final class Workspace {
    fileprivate let matchData: OpaquePointer
    fileprivate let context: OpaquePointer
    private let stack: OpaquePointer?

    init() {
      guard let matchData = pcre2_match_data_create_8(1, nil), let context = pcre2_match_context_create_8(nil) else {
        // A few hundred bytes. A failed allocation of Swift ends the process too.
        preconditionFailure("out of memory")
      }
      self.matchData = matchData
      self.context = context
      pcre2_set_match_limit_8(context, SplitRegex.matchLimit)
      pcre2_set_heap_limit_8(context, SplitRegex.heapLimitKiB)
      stack = pcre2_jit_stack_create_8(32 * 1024, 8 * 1024 * 1024, nil)
      if let stack { pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack)) }
    }

    deinit {
      if let stack { pcre2_jit_stack_free_8(stack) }
      pcre2_match_context_free_8(context)
      pcre2_match_data_free_8(matchData)
    }
  }

  /// What a search finds in a part of a text.
  private enum Found {
    case match(Range<Int>)
    case nothing
    /// What comes behind the part decides.
    case undecided
    /// It takes too many steps.
    case limit
  }

  private func search(
    _ text: UnsafeBufferPointer<UInt8>, before end: Int, from start: Int, _ workspace: Workspace
  ) -> Found {
    let options = PCRE2_NO_UTF_CHECK | (end < text.count ? PCRE2_PARTIAL_HARD : 0)
    let result = pcre2_match_8(code, text.baseAddress, end, start, options, workspace.matchData, workspace.context)
    if result == PCRE2_ERROR_NOMATCH { return .nothing }
    if result == PCRE2_ERROR_PARTIAL { return .undecided }
    guard result >= 0, let bounds = pcre2_get_ovector_pointer_8(workspace.matchData) else { return .limit }
    // Only \K makes a match that ends before it starts, and the translation refuses \K.
    guard bounds[0] <= bounds[1], bounds[1] <= end else { return .limit }
    return .match(bounds[0]..<bounds[1])
  }

  /// The first match at or after `start`; `nil` if there is none, or if it takes too many steps. Then the rest of the text
  /// is one piece, so no text keeps a thread busy for long.
  /// - Parameters:
  ///   - text: valid UTF-8
  ///   - start: on a scalar's boundary
  ///   - window: how many bytes it looks at first
  ///   - budget: how many bytes may be looked at again because a match may reach beyond what was looked at
  func firstMatch(
    in text: UnsafeBufferPointer<UInt8>, from start: Int, using workspace: Workspace, window: Int = window,
    budget: inout Int
  ) -> Range<Int>? {
    var from = start
    var length = window
    while true {
      var end = from + min(length, text.count - from)
      while end < text.count, text[end] & 0xC0 == 0x80 { end += 1 }
      switch search(text, before: end, from: from, workspace) {
      // An empty match at the end of a part says nothing: what comes behind the part was not seen.
      case .match(let match) where end == text.count || match.lowerBound < end: return match
      case .limit: return nil
      case .match, .nothing:
        if end == text.count { return nil }
        // No match begins in this part.
        from = end
      case .undecided:
        budget -= end - from
        guard budget > 0 else { return nil }
        length *= 4
      }
    }
  }

  /// Calls `body` with each match. After an empty match the search continues one scalar later. The time is linear in the
  /// text's length: where matches look far ahead again and again, the rest of the text has none.
  /// - Parameters:
  ///   - window: how many bytes a search looks at first
  ///   - looksAgain: how often a byte may be looked at again on average. Of usual patterns, only a match longer than the window
  ///     is looked at again, and that a few times
  func forEachMatch(
    in text: UnsafeBufferPointer<UInt8>, using workspace: Workspace, window: Int = window, looksAgain: Int = 64,
    _ body: (Range<Int>) -> Void
  ) {
    var from = 0
    var lastEnd = -1
    var budget = looksAgain * (text.count + Self.window)
    while from <= text.count,
      let match = firstMatch(in: text, from: from, using: workspace, window: window, budget: &budget)
    {
      from = match.upperBound
      if match.isEmpty {
        from += 1
        while from < text.count && text[from] & 0xC0 == 0x80 { from += 1 }
        if match.lowerBound == lastEnd { continue }
      }
      lastEnd = match.upperBound
      body(match)
    }
  }
}

/// Why a pattern cannot be used.
struct SplitRegexError: Error {
  let reason: String
}

/// PCRE2's version, as the library says.
public var pcre2Version: String {
  var text = [UInt8](repeating: 0, count: 64)
  let length = pcre2_config_8(UInt32(PCRE2_CONFIG_VERSION), &text)
  // "10.42 2022-12-11" and a zero.
  return String(decoding: text.prefix(max(0, Int(length))).prefix { $0 > UInt8(ascii: " ") }, as: UTF8.self)
}
