/// The weights that made a sequence's keys and values: only under equal keys may prefixes be shared.
///
/// Adapters count by their contents and the exact bits of their weights, never by name or place.
public struct PrefixKey: Sendable, Hashable {
  private struct Term: Sendable, Hashable {
    var contentHash: String
    var weightBits: UInt32
  }

  private let terms: [Term]
  private let group: UInt64?

  /// - Parameter group: shares among the sequences of one group alone; `nil` shares among all
  public init(_ adapters: AdapterSet, group: UInt64? = nil) {
    terms = adapters.terms.map { Term(contentHash: $0.adapter.contentHash, weightBits: $0.weight.bitPattern) }
    self.group = group
  }
}
