public import Tokenization
public import Formats
import Foundation
public import Model

/// The published chat templates of TemplateTests' fixtures, each with a tokenizer that has the special tokens which the
/// template writes.
public struct RealTemplate {
  public var name: String
  public var source: String
  public var specialTexts: [String]
  public var tokenizer: Tokenizer

  public var format: ChatFormat {
    get throws { try ChatFormat(tokenizer, template: source, name: name) }
  }

  public static func sources() throws -> [(name: String, source: String)] {
    let folder = URL(filePath: #filePath).appending(path: "../../../TemplateTests/Fixtures/templates").standardized
    return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().filter { $0.hasSuffix(".jinja") }
      .map { ($0, String(decoding: try Data(contentsOf: folder.appending(path: $0)), as: UTF8.self)) }
  }

  public static func all() throws -> [RealTemplate] { try sources().map(RealTemplate.init) }

  public init(name: String, source: String) throws {
    self.name = name
    self.source = source
    let patterns = [
      #"<\|[^|<>\s'"]{1,40}\|>"#, #"<｜[^｜<>\s'"]{1,40}｜>"#, #"\[/?[A-Z_]{3,30}\]"#, #"<(start|end)_of_turn>"#,
      #"<(beginning|end)_of_sentence>"#,
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
      "<|assistant_end|>", "<end_of_sentence>",
    ]
    tokenizer = try TinyTokenizer.with(
      specialTokens: specialTexts, bos: "<s>", eos: ends.first(where: found.contains) ?? "</s>")
  }
}

extension RealTemplate {
  public static let tool: JSONValue = [
    "type": "function",
    "function": [
      "name": "get_weather", "description": "The weather of a place.",
      "parameters": [
        "type": "object", "properties": ["city": ["type": "string", "description": "A city"]], "required": ["city"],
      ],
    ],
  ]

  public static func call(_ city: String) -> JSONValue { calls([city]) }

  /// An assistant's message with a call for each city.
  public static func calls(_ cities: [String], content: JSONValue? = "") -> JSONValue {
    let calls = cities.map { city in
      ChatMessage.toolCall(id: "call\(city)1", name: "get_weather", arguments: .string("{\"city\": \"\(city)\"}"))
    }
    let message: [(key: String, value: JSONValue)] = [("role", "assistant"), ("tool_calls", .array(calls))]
    return .object(JSONObject(keepingFirst: message + (content.map { [("content", $0)] } ?? [])))
  }

  public static func result(_ city: String) -> JSONValue {
    [
      "role": "tool", "tool_call_id": .string("call\(city)1"), "name": "get_weather",
      "content": "{\"temperature\": 21}",
    ]
  }

  public static func user(_ text: String) -> JSONValue { ["role": "user", "content": .string(text)] }
  public static func assistant(_ text: String) -> JSONValue { ["role": "assistant", "content": .string(text)] }

  /// Chats of every kind that is learnt, each ending in an assistant's message.
  public static let chats: [(name: String, messages: [JSONValue], tools: [JSONValue])] = [
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
