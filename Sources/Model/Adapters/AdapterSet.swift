/// The adapters of one request with their weights, in the order in which they are summed.
public struct AdapterSet: Sendable, Equatable {
  /// One adapter of a request. What it adds to the base's outputs is multiplied by `weight`.
  public struct Term: Sendable {
    /// The adapter, which stays in memory as long as the set does.
    public let adapter: Adapter
    /// The request's factor, beside the adapter's own scale; 1 for an adapter that is named without a factor.
    public let weight: Float
  }

  /// Sorted by content hash, then by weight.
  public let terms: [Term]

  /// Sorts the adapters by content hash, so that the order in which a request names them changes no bit of the result.
  /// - Parameter terms: the request's adapters with their weights, in any order
  public init(_ terms: [(adapter: Adapter, weight: Float)] = []) {
    self.terms = terms.map { Term(adapter: $0.adapter, weight: $0.weight) }
      .sorted { ($0.adapter.contentHash, $0.weight) < ($1.adapter.contentHash, $1.weight) }
  }

  /// No adapter: the base alone.
  public static let none = AdapterSet()

  /// Whether both compute the same: equal contents with equal weights.
  public static func == (a: AdapterSet, b: AdapterSet) -> Bool {
    a.terms.elementsEqual(b.terms) { $0.adapter.contentHash == $1.adapter.contentHash && $0.weight == $1.weight }
  }
}
