import Formats
import Kernels

/// What an adapter changes beside projections: norms, the embedding and the output head. Everything is a difference from
/// the base.
///
/// `@unchecked Sendable`: the memory that the pointers lead to is never written, and `owner` keeps it alive.
public struct OtherChanges: @unchecked Sendable {
  /// A norm: one of a layer, or the last one, before the head.
  struct NormKey: Hashable {
    /// `nil` for the last one.
    let layer: Int?
    /// Which one of the layer; of no meaning for the last one.
    let norm: LayerNorm

    static let last = NormKey(layer: nil, norm: .attentionInput)
  }

  /// What is added to a norm's weights, [`ModelConfig.size(of:)`].
  private let norms: [NormKey: UnsafePointer<Float>]
  private let normBytes: Int
  /// `nil` if the embedding is the base's.
  public let embedding: EmbeddingChange?
  /// `nil` if the head is the base's.
  public let head: HeadChange?
  private let owner: any AnyObject & Sendable

  /// - Parameters:
  ///   - normBytes: of all norms
  ///   - owner: keeps the norms' memory in place and unchanged
  init(
    norms: [NormKey: UnsafePointer<Float>], normBytes: Int, embedding: EmbeddingChange?, head: HeadChange?,
    owner: any AnyObject & Sendable
  ) {
    self.norms = norms
    self.normBytes = normBytes
    self.embedding = embedding
    self.head = head
    self.owner = owner
  }

  /// What is added to the weights of a norm; `nil` for nothing.
  subscript(key: NormKey) -> UnsafePointer<Float>? { norms[key] }

  /// Whether any norm has other weights than the base's.
  var changesNorms: Bool { !norms.isEmpty }

  /// The largest rank of an update of the embedding or the head.
  var rank: Int { max(embedding?.factors?.rank ?? 0, head?.update?.rank ?? 0) }

  /// Memory of all parts, in bytes.
  var byteCount: Int { normBytes + (embedding?.byteCount ?? 0) + (head?.byteCount ?? 0) }
}

/// Tokens whose rows of the embedding or the head an adapter changes.
///
/// `@unchecked Sendable`: the ids are never written, and the owner of what they belong to keeps them alive.
public struct ChangedTokens: @unchecked Sendable {
  /// Ascending, [count].
  let ids: UnsafePointer<Int32>
  let count: Int

  /// The index of a token among the ids; `nil` if its row is the base's.
  func index(of token: Int32) -> Int? {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if ids[middle] < token { low = middle + 1 } else { high = middle }
    }
    return low < count && ids[low] == token ? low : nil
  }
}

/// What an adapter adds to the embeddings of tokens.
///
/// `@unchecked Sendable`: the memory that the pointers lead to is never written, and `owner` keeps it alive.
public struct EmbeddingChange: @unchecked Sendable {
  /// LoRA on the embedding: scale · B · (column of A), with A stored token by token.
  struct Factors {
    let rank: Int
    let scale: Float
    /// [vocabularySize][rank]
    let a: UnsafePointer<Float>
    /// [rank][hiddenSize]
    let b: UnsafePointer<Float>
  }

  let hiddenSize: Int
  let factors: Factors?
  /// Tokens with a difference of their own.
  let tokens: ChangedTokens?
  /// [tokens.count][hiddenSize] in `element`
  let rows: UnsafeRawPointer?
  let element: LowRankFactors.Element
  let byteCount: Int
  let owner: any AnyObject & Sendable

  /// x += weight · the token's difference.
  /// - Parameters:
  ///   - token: below the vocabulary's size
  ///   - x: [hiddenSize]
  func add(_ token: Int32, weight: Float, to x: UnsafeMutablePointer<Float>) {
    if let factors {
      let a = factors.a + Int(token) * factors.rank
      for r in 0..<factors.rank {
        let (factor, b) = (weight * factors.scale * a[r], factors.b + r * hiddenSize)
        for i in 0..<hiddenSize { x[i] += factor * b[i] }
      }
    }
    guard let rows, let index = tokens?.index(of: token) else { return }
    switch element {
    case .f32:
      let row = rows.assumingMemoryBound(to: Float.self) + index * hiddenSize
      for i in 0..<hiddenSize { x[i] += weight * row[i] }
    case .bf16:
      let row = rows.assumingMemoryBound(to: UInt16.self) + index * hiddenSize
      for i in 0..<hiddenSize { x[i] += weight * Float(bitPattern: UInt32(row[i]) << 16) }
    }
  }
}

/// What an adapter adds to logits.
public struct HeadChange: Sendable {
  /// LoRA or DoRA on the head.
  let update: Adapter.Update?
  /// Tokens with a difference of their own.
  let tokens: ChangedTokens?
  /// The differences of these tokens' rows, [tokens.count, hiddenSize].
  let rows: Matrix?
  let byteCount: Int
}
