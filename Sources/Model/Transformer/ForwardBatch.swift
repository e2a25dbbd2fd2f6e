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
    /// The tokens whose last hidden states are wanted, as a range of indices into `tokens`.
    public var hiddenStates: Range<Int>

    /// - Parameters: as the properties
    public init(
      tokens: [Int32], position: Int, table: BlockTable, adapters: AdapterSet, logits: Range<Int>,
      hiddenStates: Range<Int> = 0..<0
    ) {
      self.tokens = tokens
      self.position = position
      self.table = table
      self.adapters = adapters
      self.logits = logits
      self.hiddenStates = hiddenStates
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
  /// Rows of hidden states that are wanted.
  public var hiddenStateRowCount: Int { segments.reduce(0) { $0 + $1.hiddenStates.count } }
}

/// The results of a forward pass. The memory that they point to is valid only while the pass's caller reads them.
public struct ForwardResults {
  /// [batch.logitRowCount][logitStride] f32, in the order of the segments.
  public var logits: UnsafeMutablePointer<Float>
  /// At least the vocabulary's size.
  public var logitStride: Int
  /// [batch.hiddenStateRowCount][hiddenSize] f32, in the order of the segments: what the output head reads, after the
  /// final norm.
  public var hiddenStates: UnsafePointer<Float>
  /// For each segment, whether a key, a value or a hidden state of it is not finite. The results of such a segment cannot
  /// be used; other segments are not affected.
  public var overflowed: [Bool]
}
