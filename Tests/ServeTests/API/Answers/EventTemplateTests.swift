import Formats
import Model
import Testing

@testable import Serve

@Suite struct EventTemplateTests {
  /// A stream's event out of the template is the one that is encoded as a whole, whatever its text.
  @Test(arguments: ["", "0", "1", " the", "a\"b\\c\n\r\t\u{1}\u{7F}", "Grüße, 世界 🦙", "\u{301}", "\r\n"])
  func templatesGiveTheWholeEncoding(text: String) {
    let shapes: [any ChoiceShape] = [CompletionShape(), ChatShape(tools: nil)]
    for shape in shapes {
      for index in [0, 1, 10] {
        func event(_ text: String) -> [UInt8] { SSEWriter.event(shape.delta(index, text: text, logprobs: .null)) }
        var bytes: [UInt8] = [7]
        EventTemplate(event).append(to: &bytes) { JSONValue.escape(text, into: &$0) }
        #expect(bytes == [7] + event(text))
      }
    }
  }
}
