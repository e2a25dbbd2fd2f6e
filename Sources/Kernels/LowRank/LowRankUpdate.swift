import CKernels

/// What one adapter adds to some rows of a linear product: scale · B·(A·x); with DoRA's factors m,
/// scale · m ⊙ B·(A·x) + weight · (m − 1) ⊙ (W·x); with a bias, weight · bias besides.
///
/// Holds no reference to the factors; the caller keeps them alive during the call. Without reference counting, a
/// batch's many updates are created quickly.
public struct LowRankUpdate {
  /// Rows of the batch.
  let rows: Range<Int>
  /// The matrix's groups that the update is added to.
  let groups: Range<Int>
  let offset: Int
  let scale: Float
  let weight: Float
  let factors: graft_lora
  let paddedRank: Int
  private let bytesPerGroup: Int
  let rowFactors: UnsafePointer<Float>?
  let rowFactorsMinusOne: UnsafePointer<Float>?
  let bias: UnsafePointer<Float>?

  /// - Parameters:
  ///   - rows: rows of the batch that get the update
  ///   - offset: the matrix's output that is the update's first; a multiple of 16
  ///   - scale: the weight that the request gives the adapter, times α/r (or α/√r)
  ///   - weight: the weight that the request gives the adapter; the bias, and DoRA's change of the base's outputs, are
  ///     scaled by it
  public init(_ factors: LowRankFactors, rows: Range<Int>, offset: Int, scale: Float, weight: Float) {
    self.rows = rows
    self.offset = offset
    self.scale = scale
    self.weight = weight
    groups = offset / tileLanes..<offset / tileLanes + TileLayout.groups(factors.outputs)
    self.factors = factors.descriptor
    paddedRank = factors.paddedRank
    bytesPerGroup = factors.bytesPerGroup
    rowFactors = factors.rowFactors
    rowFactorsMinusOne = factors.rowFactorsMinusOne
    bias = factors.bias
  }

  /// B, of which each group's bytes are prefetched while the base's product computes that group.
  var prefetch: graft_prefetch {
    graft_prefetch(
      start: factors.b.assumingMemoryBound(to: CChar.self), bytes_per_group: bytesPerGroup,
      group_begin: groups.lowerBound, group_end: groups.upperBound)
  }
}
