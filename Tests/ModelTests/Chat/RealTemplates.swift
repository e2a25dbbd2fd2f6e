import Tokenization
import Formats
import Foundation
import Model
import TestSupport
import Testing

/// The published chat templates of TemplateTests' fixtures, each with a tokenizer that has the special tokens which the
/// template writes.
struct RealTemplate {
  var name: String
  var source: String
  var specialTexts: [String]
  var tokenizer: Tokenizer

  var format: ChatFormat {
    get throws { try ChatFormat(tokenizer, template: source, name: name) }
  }

  static func sources() throws -> [(name: String, source: String)] {
    let folder = URL(filePath: #filePath).appending(path: "../../../TemplateTests/Fixtures/templates").standardized
    return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().filter { $0.hasSuffix(".jinja") }
      .map { ($0, String(decoding: try Data(contentsOf: folder.appending(path: $0)), as: UTF8.self)) }
  }

  static func all() throws -> [RealTemplate] { try sources().map(RealTemplate.init) }

  init(name: String, source: String) throws {
    self.name = name
    self.source = source
    let patterns = [
      #"<\|[^|<>\s'"]{1,40}\|>"#, #"<｜[^｜<>\s'"]{1,40}｜>"#, #"\[/?[A-Z_]{3,30}\]"#, #"<(start|end)_of_turn>"#,
      #"</?s>"#, #"<SPECIAL_\d+>"#,
    ]
    var found: Set<String> = ["<s>", "</s>"]
    for pattern in patterns {
      let regex = try NSRegularExpression(pattern: pattern)
      let range = NSRange(source.startIndex..., in: source)
      for match in regex.matches(in: source, range: range) {
        if let range = Range(match.range, in: source) { found.insert(String(source[range])) }
      }
    }
    specialTexts = found.sorted()
    let ends = [
      "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|return|>", "<|end|>", "<｜end▁of▁sentence｜>",
      "<|END_OF_TURN_TOKEN|>",
      "<|assistant_end|>",
    ]
    tokenizer = try TinyTokenizer.with(
      specialTokens: specialTexts, bos: "<s>", eos: ends.first(where: found.contains) ?? "</s>")
  }
}

extension RealTemplate {
  static let tool: JSONValue = [
    "type": "function",
    "function": [
      "name": "get_weather", "description": "The weather of a place.",
      "parameters": [
        "type": "object", "properties": ["city": ["type": "string", "description": "A city"]], "required": ["city"],
      ],
    ],
  ]

  static func call(_ city: String) -> JSONValue {
    [
      "role": "assistant", "content": "",
      "tool_calls": [
        [
          "id": .string("call\(city)1"), "type": "function",
          "function": ["name": "get_weather", "arguments": .string("{\"city\": \"\(city)\"}")],
        ]
      ],
    ]
  }

  static func result(_ city: String) -> JSONValue {
    [
      "role": "tool", "tool_call_id": .string("call\(city)1"), "name": "get_weather",
      "content": "{\"temperature\": 21}",
    ]
  }

  static func user(_ text: String) -> JSONValue { ["role": "user", "content": .string(text)] }
  static func assistant(_ text: String) -> JSONValue { ["role": "assistant", "content": .string(text)] }

  /// Chats of every kind that is learnt, each ending in an assistant's message.
  static let chats: [(name: String, messages: [JSONValue], tools: [JSONValue])] = [
    ("turns", [user("Hello there"), assistant("One."), user("And now?"), assistant("Two, \"dear\" friend.")], []),
    ("call", [user("Weather in Oslo?"), call("Oslo")], [tool]),
    ("answer", [user("Weather in Oslo?"), call("Oslo"), result("Oslo"), assistant("It is 21.")], [tool]),
    (
      "calls",
      [
        user("Weather in Oslo?"), call("Oslo"), result("Oslo"), assistant("It is 21."), user("And in Rome?"),
        call("Rome"), result("Rome"),
        assistant("As warm."),
      ], [tool]
    ),
    (
      "thinking",
      [
        user("Hello there"), assistant("<think>\nFirst.\n</think>\n\nOne."), user("And now?"),
        assistant("<think>\nThen.\n</think>\n\nTwo."),
      ], []
    ),
    (
      "system", [["role": "system", "content": "Be kind."], user("Hello there"), assistant("One.")], []
    ),
  ]
}
