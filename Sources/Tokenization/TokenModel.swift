/// Turns the pieces of a text into ids.
protocol PieceModel: Sendable {
  /// Appends the ids of a piece.
  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: EncodingScratch, into ids: inout [Int32])
}

extension BytePairModel: PieceModel {}
extension UnigramModel: PieceModel {}

/// The model of a vocabulary.
enum TokenModel: Sendable {
  case bytePairs(BytePairModel)
  case unigram(UnigramModel)
}
