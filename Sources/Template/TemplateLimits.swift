/// What one rendering may use. Counts are exact and do not depend on the machine's speed, so that a chat which renders
/// once renders always.
public struct TemplateLimits: Equatable, Sendable {
  /// Evaluated expressions and statements, loop iterations, and one more for each 64 bytes that a string operation reads.
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

  /// Nested expressions and blocks that a template's source may have.
  static let parseDepth = 80
  /// Bytes of a template's source.
  static let sourceBytes = 4 << 20
  /// Elements of a `range`, as in jinja2's sandbox.
  static let rangeCount = 100_000
}
