import Formats
import Model

/// Chats as other programs write them.
extension ChatLine {
  /// TRL's `prompt` and `completion`, both lists of messages.
  static func readPromptCompletion(_ line: JSONObject) throws(LineErrors) -> ChatLine {
    var reading = Reading()
    var chat = ChatLine()
    chat.takeTools(line, "", &reading)
    chat.take(line["prompt"], "prompt", isTrained: false, &reading)
    let answered = chat.answered(line["completion"], "completion", &reading)
    try reading.end()
    return answered
  }

  /// TRL's preferences with messages. `prompt` is a list of messages or a text; without it, both answers are whole
  /// chats.
  static func readMessagePreference(
    _ line: JSONObject
  ) throws(LineErrors) -> (chosen: ChatLine, rejected: ChatLine, mapping: RowMapping) {
    var reading = Reading()
    var chat = ChatLine()
    chat.takeTools(line, "", &reading)
    let (chosen, rejected) = (line["chosen"]?.array ?? [], line["rejected"]?.array ?? [])
    let prompt = line["prompt"]
    var mapping = RowMapping.explicitPair
    var skipped = 0
    if let text = prompt?.string, (chosen + rejected).allSatisfy({ $0.object?["role"]?.string == "assistant" }) {
      chat.take([["role": "user", "content": .string(text)]], "prompt", isTrained: false, &reading)
    } else if prompt == nil || prompt?.isNull == true || prompt?.string != nil {
      mapping = .implicitPair
      skipped = zip(chosen, rejected).prefix { $0 == $1 }.count
      let shared = Array(chosen.prefix(skipped))
      if let text = prompt?.string, !shared.contains(where: { $0.object?["content"]?.string == text }) {
        reading.refuse(
          "invalid_value",
          "'prompt' is a text that 'chosen' and 'rejected' do not begin with; make it a list of messages")
      } else if skipped == 0 {
        reading.refuse("missing_messages_list", "'chosen' and 'rejected' begin with no common message, the prompt")
      } else {
        chat.take(.array(shared), "chosen", isTrained: false, &reading)
      }
    } else {
      chat.take(prompt, "prompt", isTrained: false, &reading)
    }
    let answers = (
      chat.answered(.array(Array(chosen.dropFirst(skipped))), "chosen", &reading),
      chat.answered(.array(Array(rejected.dropFirst(skipped))), "rejected", &reading)
    )
    try reading.end()
    return (answers.0, answers.1, mapping)
  }

  // MARK: ShareGPT

  private static let shareGPTRoles = [
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant", "model": "assistant", "system": "system", "tool": "tool",
  ]

  /// ShareGPT's `conversations`, or OpenAI's messages under that name.
  static func readConversations(
    _ line: JSONObject
  ) throws(LineErrors) -> (chat: ChatLine, mapping: RowMapping) {
    var reading = Reading()
    let (chat, mapping) = conversations(line, isTrained: true, &reading)
    chat.checkAssistant(&reading)
    try reading.end()
    return (chat, mapping)
  }

  /// Two answers to ShareGPT's `conversations`.
  static func readConversationsPreference(
    _ line: JSONObject
  ) throws(LineErrors) -> (chosen: ChatLine, rejected: ChatLine) {
    var reading = Reading()
    let (chat, _) = conversations(line, isTrained: false, &reading)
    func answer(_ key: String) -> ChatLine {
      let turns = line[key].map { $0.array ?? [$0] } ?? []
      return chat.answered(messages(turns, key, &reading), key, &reading)
    }
    let (chosen, rejected) = (answer("chosen"), answer("rejected"))
    try reading.end()
    return (chosen, rejected)
  }

  private static func conversations(
    _ line: JSONObject, isTrained: Bool, _ reading: inout Reading
  ) -> (chat: ChatLine, mapping: RowMapping) {
    var chat = ChatLine()
    chat.takeTools(line, "", &reading)
    chat.takeSystem(line, &reading)
    let turns = line["conversations"]?.array ?? []
    let isShareGPT = turns.contains { $0.object?["from"] != nil }
    let list = isShareGPT ? messages(turns, "conversations", &reading) : line["conversations"]
    chat.take(list, "conversations", isTrained: isTrained, &reading)
    return (chat, isShareGPT ? .shareGPT : .conversations)
  }

  /// ShareGPT's turns as messages.
  private static func messages(_ turns: [JSONValue], _ path: String, _ reading: inout Reading) -> JSONValue {
    .array(
      turns.enumerated().map { index, turn in
        guard let object = turn.object, let from = object["from"] else { return turn }
        if let name = from.string, shareGPTRoles[name.lowercased()] == nil {
          reading.refuse("unrecognized_role", "\(path)[\(index)].from is '\(name.prefix(40))'")
        }
        let role = from.string.flatMap { shareGPTRoles[$0.lowercased()] } ?? "user"
        return .object(
          JSONObject(
            keepingFirst: object.pairs.map { pair in
              switch pair.key {
              case "from": (key: "role", value: .string(role))
              case "value": (key: "content", value: pair.value)
              default: pair
              }
            }))
      })
  }

  /// A row's own `system`, as LLaMA-Factory has it.
  private mutating func takeSystem(_ line: JSONObject, _ reading: inout Reading) {
    guard let system = line["system"], !system.isNull, system.string?.isEmpty != true else { return }
    take([["role": "system", "content": system]], "system", isTrained: false, &reading)
  }

  // MARK: Alpaca

  /// Alpaca's `instruction`, `input` and `output`, with LLaMA-Factory's `system` and `history`.
  static func readAlpaca(_ line: JSONObject) throws(LineErrors) -> ChatLine {
    var reading = Reading()
    let chat = alpaca(line, isTrained: true, &reading)
      .answered([answer(line, "output", &reading)], "output", &reading)
    try reading.end()
    return chat
  }

  /// Two answers to Alpaca's `instruction` and `input`.
  static func readAlpacaPreference(
    _ line: JSONObject
  ) throws(LineErrors) -> (chosen: ChatLine, rejected: ChatLine) {
    var reading = Reading()
    let chat = alpaca(line, isTrained: false, &reading)
    let chosen = chat.answered([answer(line, "chosen", &reading)], "chosen", &reading)
    let rejected = chat.answered([answer(line, "rejected", &reading)], "rejected", &reading)
    try reading.end()
    return (chosen, rejected)
  }

  private static func answer(_ line: JSONObject, _ key: String, _ reading: inout Reading) -> JSONValue {
    if line[key]?.string == nil { reading.refuse("data_type", "'\(key)' is no string") }
    return ["role": "assistant", "content": line[key] ?? .null]
  }

  private static func alpaca(_ line: JSONObject, isTrained: Bool, _ reading: inout Reading) -> ChatLine {
    var chat = ChatLine()
    chat.takeSystem(line, &reading)
    for (index, turn) in (line["history"]?.array ?? []).enumerated() {
      guard let texts = turn.array, texts.count == 2 else {
        reading.refuse("data_type", "history[\(index)] is no list of a question and an answer")
        continue
      }
      let messages: JSONValue = [["role": "user", "content": texts[0]], ["role": "assistant", "content": texts[1]]]
      chat.take(messages, "history[\(index)]", isTrained: isTrained, &reading)
    }
    for key in ["instruction", "input"] {
      if let value = line[key], !value.isNull, value.string == nil {
        reading.refuse("data_type", "'\(key)' is no string")
      }
    }
    let parts = [line["instruction"]?.string, line["input"]?.string].compactMap { $0 }.filter { !$0.isEmpty }
    let question: JSONValue = .string(parts.joined(separator: "\n\n"))
    chat.take([["role": "user", "content": question]], "instruction", isTrained: false, &reading)
    return chat
  }
}
