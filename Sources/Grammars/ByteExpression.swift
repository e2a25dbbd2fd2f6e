/// A set of bytes.
public struct ByteSet: Hashable, Sendable {
  private var words: SIMD4<UInt64> = .zero

  /// The empty set.
  public init() {}

  /// The bytes of a range.
  public init(_ range: ClosedRange<UInt8>) {
    for byte in range { insert(byte) }
  }

  /// The bytes of a sequence.
  public init(_ bytes: some Sequence<UInt8>) {
    for byte in bytes { insert(byte) }
  }

  /// All 256 bytes.
  public static let all = ByteSet(0...255)

  /// Whether the byte is in the set.
  public func contains(_ byte: UInt8) -> Bool {
    words[Int(byte >> 6)] >> UInt64(byte & 63) & 1 == 1
  }

  /// Adds a byte.
  public mutating func insert(_ byte: UInt8) {
    words[Int(byte >> 6)] |= 1 << UInt64(byte & 63)
  }

  /// Whether no byte is in the set.
  public var isEmpty: Bool { words == .zero }
  /// How many bytes are in the set.
  public var count: Int { (0..<4).reduce(0) { $0 + words[$1].nonzeroBitCount } }
  /// The bytes that are not in the set.
  public var inverted: ByteSet { ByteSet(words: ~words) }
  /// The bytes that are in either set.
  public func union(_ other: ByteSet) -> ByteSet { ByteSet(words: words | other.words) }
  /// The bytes that are in both sets.
  public func intersection(_ other: ByteSet) -> ByteSet { ByteSet(words: words & other.words) }

  private init(words: SIMD4<UInt64>) {
    self.words = words
  }
}

/// A regular expression over bytes. It stands for a set of byte strings; text is UTF-8.
public indirect enum ByteExpression: Hashable, Sendable {
  /// No string at all.
  case nothing
  /// The empty string.
  case empty
  /// One byte of the set.
  case byte(ByteSet)
  /// The strings of the parts, one after another.
  case sequence([ByteExpression])
  /// A string of any of the alternatives.
  case alternatives([ByteExpression])
  /// The expression `minimum` to `maximum` times; without end if `maximum` is nil.
  case repetition(ByteExpression, minimum: Int, maximum: Int?)
  /// The strings that are in all of the expressions.
  case intersection([ByteExpression])
  /// The strings that are not in the expression.
  case complement(ByteExpression)
}

extension ByteExpression {
  /// Exactly these bytes.
  public static func literal(_ text: String) -> ByteExpression {
    literal(bytes: Array(text.utf8))
  }

  /// Exactly these bytes.
  public static func literal(bytes: [UInt8]) -> ByteExpression {
    bytes.isEmpty ? .empty : .sequence(bytes.map { single[Int($0)] })
  }

  /// The expression of each byte, made once, so that long texts share them.
  private static let single: [ByteExpression] = (UInt8.min...UInt8.max).map { .byte(ByteSet([$0])) }

  /// How many nodes the expression has.
  var size: Int {
    switch self {
    case .nothing, .empty, .byte: 1
    case .sequence(let parts), .alternatives(let parts), .intersection(let parts): parts.reduce(1) { $0 + $1.size }
    case .repetition(let part, _, _), .complement(let part): 1 + part.size
    }
  }

  /// This expression or the empty string.
  public var optional: ByteExpression { .repetition(self, minimum: 0, maximum: 1) }
}
