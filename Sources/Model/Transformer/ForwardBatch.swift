/// The input of a forward pass: tokens of any number of sequences, each sequence with its own adapters.
public struct ForwardBatch: Sendable {
  /// Consecutive tokens of one sequence: a chunk of its prompt, or the token that is decoded.
  public struct Segment: Sendable {
    /// Token ids; at least one.
    public var tokens: [Int32]
    /// The position of the first token in its sequence.
    public var position: Int
    /// The sequence's cache blocks, for every position up to the last token's.
    public var table: BlockTable
    /// Applied to all tokens of the segment.
    public var adapters: AdapterSet
    /// The tokens whose logits are wanted, as a range of indices into `tokens`.
    public var logits: Range<Int>

    /// - Parameters: as the properties
    public init(tokens: [Int32], position: Int, table: BlockTable, adapters: AdapterSet, logits: Range<Int>) {
      self.tokens = tokens
      self.position = position
      self.table = table
      self.adapters = adapters
      self.logits = logits
    }
  }

  /// In the order in which their logits are given.
  public var segments: [Segment]

  /// - Parameter segments: of any number of sequences, at most one of each
  public init(segments: [Segment]) { self.segments = segments }

  /// Tokens of all segments: the rows of the pass's matrices.
  public var rowCount: Int { segments.reduce(0) { $0 + $1.tokens.count } }
  /// Rows of logits that are wanted.
  public var logitRowCount: Int { segments.reduce(0) { $0 + $1.logits.count } }
}
