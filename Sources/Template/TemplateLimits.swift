/// What one rendering may use. Counts are exact and do not depend on the machine's speed, so that a chat which renders
/// once renders always.
public struct TemplateLimits: Equatable, Sendable {
  /// Evaluated expressions and statements, loop iterations, and one more for each 64 bytes that a string operation reads,
  /// or for each byte where it looks at every character.
  public var steps: Int
  /// Bytes of strings, lists and other values made while rendering, in all, freed or not.
  public var allocatedBytes: Int
  /// UTF-8 bytes of the rendering.
  public var outputBytes: Int
  /// Nested evaluations: blocks, operators, calls of macros. One costs at most about a kilobyte of the caller's stack.
  public var depth: Int
  /// Nested lists and objects in values, the variables included.
  public var valueDepth: Int

  public init(
    steps: Int = 10_000_000, allocatedBytes: Int = 512 << 20, outputBytes: Int = 64 << 20, depth: Int = 400,
    valueDepth: Int = 128
  ) {
    self.steps = steps
    self.allocatedBytes = allocatedBytes
    self.outputBytes = outputBytes
    self.depth = depth
    self.valueDepth = valueDepth
  }

  public static let `default` = TemplateLimits()

  /// What a chat of that size may use: far more than published templates need, and no more than a few tenths of a second
  /// and 64 MiB, whatever the template and the chat are; a chat of more than 8 MiB may use up to 96 MiB.
  /// - Parameter inputBytes: of the variables' strings, and 64 for each value
  public static func chat(inputBytes: Int, depth: Int) -> TemplateLimits {
    let input = min(max(inputBytes, 0), 1 << 30)
    return TemplateLimits(
      steps: min(400_000 + 12 * input, 2_500_000),
      allocatedBytes: max(min((16 << 20) + 256 * input, 48 << 20), min(6 * input, 96 << 20)),
      outputBytes: (1 << 20) + 2 * input, depth: depth)
  }

  /// Nested expressions and blocks that a template's source may have.
  static let parseDepth = 80
  /// Bytes of a template's source.
  static let sourceBytes = 4 << 20
  /// Elements of a `range`, as in jinja2's sandbox.
  static let rangeCount = 100_000
}
