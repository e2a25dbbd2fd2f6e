import Formats
import Model

/// How rows in another program's format are read as chats or pairs. The descriptions are shown to the user.
public enum RowMapping: String, Sendable, Hashable, CaseIterable {
  /// `instruction`, `input`, `output`
  case alpaca
  /// `instruction`, `input`, `chosen`, `rejected`
  case alpacaPair
  /// `conversations` with `from` and `value`
  case shareGPT
  /// `conversations` with `from` and `value`, `chosen`, `rejected`
  case shareGPTPair
  /// `conversations` in the form of OpenAI's `messages`
  case conversations
  /// TRL's `prompt` and `completion` as messages
  case promptCompletion
  /// TRL's `prompt`, `chosen` and `rejected` as messages
  case explicitPair
  /// TRL's `chosen` and `rejected` as whole chats
  case implicitPair

  /// "Alpaca rows: 'instruction' and …"
  public var description: String {
    switch self {
    case .alpaca:
      "Alpaca rows: 'instruction', and 'input' behind an empty line, are the user's message, 'output' is the "
        + "assistant's and is learnt; 'system' and 'history' come before them; 'text' is not used"
    case .alpacaPair:
      "Alpaca rows with 'chosen' and 'rejected': 'instruction', and 'input' behind an empty line, are the user's "
        + "message, which both answer"
    case .shareGPT:
      "ShareGPT rows: in 'conversations', 'human' is the user and 'gpt' the assistant, which is learnt"
    case .shareGPTPair:
      "ShareGPT rows with 'chosen' and 'rejected': both answer 'conversations', where 'human' is the user and 'gpt' "
        + "the assistant"
    case .conversations: "'conversations' are read as 'messages'"
    case .promptCompletion: "'prompt' and 'completion' are messages of one chat, of which 'completion' is learnt"
    case .explicitPair: "'chosen' and 'rejected' are messages that both answer 'prompt'"
    case .implicitPair: "'chosen' and 'rejected' are whole chats; the messages that both begin with are the prompt"
    }
  }
}

/// Fields that would change what is learnt, but are not supported. A row that has one is refused.
enum RefusedFields {
  private static let reasons: [String: String] = [
    "label": "KTO's label, or a class, cannot be learnt from; keep the rows that are wanted, and remove the field",
    "kto_tag": "KTO's label cannot be learnt from; keep the rows that are wanted, and remove the field",
    "weight": "whole rows have no weight; an assistant's message can have the weight 0 or 1",
    "sample_weight": "rows have no weight", "loss_weight": "rows have no weight",
    "margin": "pairs have no margin",
    "completion_mask": "use 'labels', where -100 carries no loss",
    "assistant_masks": "use 'labels', where -100 carries no loss",
    "attention_mask": "use 'tokens' without padding",
    "chat_template_kwargs": "templates get no values of their own for each row",
    "image": "models of text see no images", "images": "models of text see no images",
    "audio": "models of text hear no audio", "audios": "models of text hear no audio",
    "video": "models of text see no videos", "videos": "models of text see no videos",
  ]

  /// Fields of a chat, which not all formats read.
  private static let ofChats: Set<String> = ["system", "history", "tools", "functions"]

  /// The first field of a row that would be ignored although it changes what should be learnt.
  static func first(in row: JSONObject) -> LineError? {
    for (key, value) in row.pairs where !saysNothing(key, value) {
      if let reason = reasons[key] { return LineError("unsupported_field", "'\(key)' is not supported: \(reason)") }
    }
    return nil
  }

  /// The first field of a chat that a row has and its format does not read.
  /// - Parameter read: the fields that the format reads
  static func lost(in row: JSONObject, read: Set<String>) -> LineError? {
    for (key, value) in row.pairs where ofChats.contains(key) && !read.contains(key) && !saysNothing(key, value) {
      let advice =
        key == "tools" || key == "functions" ? "use the form with 'messages' and 'tools'" : "put it into the messages"
      return LineError("unsupported_field", "'\(key)' is not read in rows of this form; \(advice)")
    }
    return nil
  }

  private static func saysNothing(_ key: String, _ value: JSONValue) -> Bool {
    value.isNull || value.string?.isEmpty == true || value.array?.isEmpty == true || value.object?.isEmpty == true
      || (key == "weight" && value.double == 1)
  }
}
