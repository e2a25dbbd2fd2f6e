import Foundation
import Testing

@testable import Formats
@testable import Serve

/// The conversations of responses count as bodies do, from when they are read until the answer is written.
@Suite struct ResponseMemoryTests {
  private let setting: AnswerSetting
  private let memory = BodyMemory(limit: 4 << 20)

  init() throws { setting = try AnswerSetting() }

  /// Stores a response whose conversation has so many bytes of text.
  private func store(_ id: String, bytes: Int) throws {
    let text = JSONValue.string(String(repeating: "word ", count: bytes / 5))
    let item = ResponseItems.message("user", [["type": "input_text", "text": text]])
    let (stored, error) = (Flag(), Box<APIError?>(nil))
    setting.context.responses.add(
      StoredResponse(
        id: id, createdAt: Int(Date().timeIntervalSince1970), response: [:], input: [], context: [item])
    ) {
      error.value = $0
      stored.set()
    }
    #expect(stored.wait() && error.value == nil)
  }

  private func body(_ previous: String? = nil, text: String = "a") -> String {
    let id = previous.map { #", "previous_response_id": "\#($0)""# } ?? ""
    return #"{"input": "\#(text)", "max_output_tokens": 1, "truncation": "auto"\#(id)}"#
  }

  /// Whether two other clients could hold so many bytes.
  private func isFree(_ bytes: Int) -> Bool {
    let one = MemoryShare(memory, client: "b").holdIfFree(bytes / 2)
    let other = MemoryShare(memory, client: "c").holdIfFree(bytes - bytes / 2)
    return one != nil && other != nil
  }

  @Test func aContinuedConversationCountsAsLongAsItsRequestIsHeld() throws {
    try store("resp_a", bytes: 1 << 20)
    // An eighth is for short bodies alone.
    let large = (4 << 20) / 8 * 7 - (1 << 20)
    var prepared: (any PreparedRequest)? = try setting.prepare(.responses, body("resp_a"), memory: memory)
    #expect(!isFree(large) && isFree(large - 2000))
    withExtendedLifetime(prepared) {}
    prepared = nil
    #expect(isFree(large))
  }

  @Test func theInputCountsAsLongAsItsRequestIsHeld() throws {
    let text = String(repeating: "word ", count: 10)
    let free = (4 << 20) / 8 * 7
    var prepared: (any PreparedRequest)? = try setting.prepare(.responses, body(text: text), memory: memory)
    #expect(!isFree(free) && isFree(free - 1000))
    withExtendedLifetime(prepared) {}
    prepared = nil
    #expect(isFree(free))
  }

  @Test func aConversationThatDoesNotFitIsRefusedBeforeItIsRead() throws {
    try store("resp_b", bytes: 3 << 20)
    let error = #expect(throws: APIError.self) { try setting.prepare(.responses, body("resp_b"), memory: memory) }
    #expect(error?.status == 503 && error?.retryAfter == 1 && error?.message.contains("conversations") == true)
    #expect(isFree((4 << 20) / 8 * 7))
    // Others are not affected.
    #expect(throws: Never.self) { try setting.prepare(.responses, body(), memory: memory) }
  }
}
