import Formats
import Foundation
import Testing

@testable import Serve

@Suite struct EmbeddingAnswerTests {
  private let values: [[Float]] = [[0.1, -1e-9, 1], [0, -0.33333334, 12345]]

  private func decoded(isBase64: Bool) throws -> JSONObject {
    let answer = EmbeddingAnswer(model: "a\"b", embeddings: values, isBase64: isBase64, tokens: 7)
    return try #require(try JSONValue.parse(answer.encoded, subject: "answer").object)
  }

  @Test func numbersAreTheFloatsThemselves() throws {
    let answer = try decoded(isBase64: false)
    #expect(answer["object"] == "list" && answer["model"] == "a\"b")
    #expect(answer["usage"] == ["prompt_tokens": 7, "total_tokens": 7])
    let data = try #require(answer["data"]?.array)
    for (index, item) in data.enumerated() {
      #expect(item.object?["object"] == "embedding" && item.object?["index"] == .integer(index))
      #expect(item.object?["embedding"]?.array?.map { Float($0.double ?? .nan) } == values[index])
    }
    #expect(data.count == 2)
  }

  @Test func base64IsLittleEndian() throws {
    let data = try #require(try decoded(isBase64: true)["data"]?.array)
    for (index, item) in data.enumerated() {
      let bytes = try #require(Data(base64Encoded: item.object?["embedding"]?.string ?? ""))
      let floats = stride(from: 0, to: bytes.count, by: 4).map { first in
        Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[first + $1]) << UInt32(8 * $1) })
      }
      #expect(floats == values[index])
    }
  }
}
