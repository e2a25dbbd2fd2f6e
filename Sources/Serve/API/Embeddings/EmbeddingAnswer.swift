import Formats
import Foundation

/// The answer of `POST /v1/embeddings`.
struct EmbeddingAnswer: Sendable {
  /// The model's name.
  var model: String
  /// One for each input, in their order.
  var embeddings: [[Float]]
  var isBase64: Bool
  /// Tokens of all inputs.
  var tokens: Int

  var encoded: [UInt8] {
    var bytes = Array(#"{"object":"list","data":["#.utf8)
    for (index, embedding) in embeddings.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      bytes += Array(#"{"object":"embedding","index":\#(index),"embedding":"#.utf8)
      if isBase64 { Self.appendBase64(embedding, to: &bytes) } else { Self.appendNumbers(embedding, to: &bytes) }
      bytes.append(UInt8(ascii: "}"))
    }
    let rest: JSONValue = [
      "model": .string(model), "usage": ["prompt_tokens": .integer(tokens), "total_tokens": .integer(tokens)],
    ]
    return bytes + Array("],".utf8) + rest.encoded.dropFirst()
  }

  /// A float's shortest digits that give it back.
  private static func appendNumbers(_ values: [Float], to bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "["))
    for (index, value) in values.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      bytes += "\(value)".utf8
    }
    bytes.append(UInt8(ascii: "]"))
  }

  /// Little-endian f32, as OpenAI's clients decode it.
  private static func appendBase64(_ values: [Float], to bytes: inout [UInt8]) {
    let data = values.map(\.bitPattern.littleEndian).withUnsafeBytes { Data($0) }
    bytes.append(UInt8(ascii: "\""))
    bytes += data.base64EncodedData()
    bytes.append(UInt8(ascii: "\""))
  }
}

extension EmbeddingRequest {
  /// The first `dimensions` values of an embedding, scaled to the length 1 again.
  func shortened(_ embedding: [Float]) -> [Float] {
    if dimensions == embedding.count { return embedding }
    return PooledStates.normalized(embedding.prefix(dimensions).map(Double.init))
  }
}
