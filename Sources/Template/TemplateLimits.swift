/// What one rendering may use. The counts are exact and do not depend on the machine's speed, so a chat that renders once
/// always renders.
public struct TemplateLimits: Equatable, Sendable {
  /// Evaluated expressions and statements, and loop iterations. A string operation counts one more for each 64 bytes
  /// that it reads, or one for each byte if it reads the text character by character.
  public var steps: Int
  /// Bytes of all strings, lists and other values made while rendering, including those freed meanwhile.
  public var allocatedBytes: Int
  /// UTF-8 bytes of the rendering.
  public var outputBytes: Int
  /// Nested evaluations of blocks, operators and macros. Each takes up to about a kilobyte of the caller's stack.
  public var depth: Int
  /// Nested lists and objects in values, including the variables.
  public var valueDepth: Int

  /// - Parameters: as the properties
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

  /// The limits that `init` has by default.
  public static let `default` = TemplateLimits()

  /// Limits for a chat of some size. Published templates need far less. Whatever the template and the chat are, a rendering
  /// takes no more than a few tenths of a second and 64 MiB, or 96 MiB for a chat of more than 8 MiB.
  /// - Parameters:
  ///   - inputBytes: bytes of all strings in the variables, and 64 for each value
  ///   - depth: nested evaluations
  public static func chat(inputBytes: Int, depth: Int) -> TemplateLimits {
    let input = min(max(inputBytes, 0), 1 << 30)
    return TemplateLimits(
      steps: min(400_000 + 12 * input, 2_500_000),
      allocatedBytes: max(min((16 << 20) + 256 * input, 48 << 20), min(6 * input, 96 << 20)),
      outputBytes: (1 << 20) + 2 * input, depth: depth)
  }

  /// How deeply expressions and blocks may nest in a template's source.
  static let parseDepth = 80
  /// Maximum bytes of a template's source.
  static let sourceBytes = 4 << 20
  /// Maximum elements of a `range`, as in jinja2's sandbox.
  static let rangeCount = 100_000
}
