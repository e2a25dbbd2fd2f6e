/// What one forward pass computes: rows of any number of sequences, each with its own adapters.
public struct ForwardBatch: Sendable {
  /// A stretch of consecutive tokens of one sequence: a chunk of its prompt, or the token being decoded.
  public struct Segment: Sendable {
    public var tokens: [Int32]
    /// Position of the first token in its sequence.
    public var position: Int
    /// Covers every position up to the last token's.
    public var table: BlockTable
    public var adapters: AdapterSet
    /// Which of the tokens' logits are wanted, as a range of indices into `tokens`.
    public var logits: Range<Int>

    public init(tokens: [Int32], position: Int, table: BlockTable, adapters: AdapterSet, logits: Range<Int>) {
      self.tokens = tokens
      self.position = position
      self.table = table
      self.adapters = adapters
      self.logits = logits
    }
  }

  public var segments: [Segment]

  public init(segments: [Segment]) { self.segments = segments }

  public var rowCount: Int { segments.reduce(0) { $0 + $1.tokens.count } }
  public var logitRowCount: Int { segments.reduce(0) { $0 + $1.logits.count } }
}
