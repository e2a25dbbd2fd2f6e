import Formats
import Foundation

/// Reads a Hugging Face folder's tokenizer: tokenizer.json (`tokenizers`), or else tekken.json (Mistral) or tokenizer.model
/// (SentencePiece, tiktoken); tokenizer_config.json, the chat template's files and generation_config.json.
struct HuggingFaceTokenizerReader {
  private static let largestFile = 256 << 20

  let folder: URL
  let name: String

  init(_ folder: URL, name: String) {
    self.folder = folder
    self.name = name
  }

  func definition() throws(ModelError) -> TokenizerDefinition {
    let config = try json("tokenizer_config.json")
    var definition = try vocabulary(config)
    if let config { try readTokenizerConfig(config, into: &definition) }
    try readEndTokens(into: &definition)
    if let template = try contents("chat_template.jinja") {
      guard let text = String(validating: template, as: UTF8.self) else {
        throw ModelError(name, "chat_template.jinja", reason: "not UTF-8")
      }
      definition.chatTemplates["default"] = text
    }
    return definition
  }

  private func vocabulary(_ config: JSONTree?) throws(ModelError) -> TokenizerDefinition {
    if let document = try json("tokenizer.json") {
      return try TokenizerJSONReader(document, subject: name).definition()
    }
    if let document = try json("tekken.json") {
      return try TekkenReader(document: document, subject: name).definition()
    }
    guard let data = try contents("tokenizer.model").map({ Array($0) }) else {
      throw ModelError(
        name, "tokenizer.json", reason: "no such file in \(folder.path), nor tekken.json or tokenizer.model")
    }
    let added = try addedTokens(config)
    if TiktokenReader.isTiktoken(data) {
      return try TiktokenReader(data: data, subject: name).definition(special: added)
    }
    let file = try SentencePieceFile(data, subject: name)
    // As transformers does, whose older versions put a space behind special tokens too.
    var definition = try TokenizerDefinition(file, prefixesEverySegment: config?["legacy"]?.bool ?? true)
    try definition.add(added) { ModelError(name, "tokenizer_config.json", "added_tokens_decoder", reason: $0) }
    return definition
  }

  /// The tokens of tokenizer_config.json's `added_tokens_decoder`, or else of added_tokens.json: what tokenizer.model lacks.
  private func addedTokens(_ config: JSONTree?) throws(ModelError) -> [AddedToken] {
    var tokens: [AddedToken] = []
    if let members = config?["added_tokens_decoder"]?.members {
      for member in members {
        guard let id = Int32(member.key), id >= 0, let content = member.value["content"]?.string, !content.isEmpty
        else {
          throw ModelError(
            name, "tokenizer_config.json", "added_tokens_decoder", reason: "'\(member.key)' without id or content")
        }
        tokens.append(
          AddedToken(
            id: id, content: content, isSpecial: member.value["special"]?.bool ?? false,
            stripsLeft: member.value["lstrip"]?.bool ?? false, stripsRight: member.value["rstrip"]?.bool ?? false,
            isSingleWord: member.value["single_word"]?.bool ?? false))
      }
    } else if let members = try json("added_tokens.json")?.members {
      for member in members {
        guard let id = member.value.tokenID, !member.key.isEmpty else {
          throw ModelError(name, "added_tokens.json", reason: "'\(member.key)' has no token id")
        }
        tokens.append(AddedToken(id: id, content: member.key, isSpecial: false))
      }
    }
    return tokens.sorted { $0.id < $1.id }
  }

  private func contents(_ file: String) throws(ModelError) -> Data? {
    let url = folder.appendingPathComponent(file)
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    do {
      return Data(try MappedFile.contents(of: url, limit: Self.largestFile))
    } catch let error as ModelError {
      throw ModelError(name, file, reason: error.reason)
    } catch {
      throw ModelError(name, file, reason: "cannot be read: \(error.localizedDescription)")
    }
  }

  private func json(_ file: String) throws(ModelError) -> JSONTree? {
    guard let data = try contents(file) else { return nil }
    let result = data.withUnsafeBytes { bytes in
      Result { () throws(JSONSyntaxError) in try JSONTree(bytes.assumingMemoryBound(to: UInt8.self)) }
    }
    do {
      return try result.get()
    } catch {
      throw ModelError(name, file, reason: "no JSON at byte \(error.offset): \(error.reason)")
    }
  }

  /// Reads chat templates, the beginning-of-sequence token, and whether that is added.
  private func readTokenizerConfig(
    _ config: JSONTree, into definition: inout TokenizerDefinition
  ) throws(ModelError) {
    if let template = config["chat_template"]?.string {
      definition.chatTemplates["default"] = template
    } else if let templates = config["chat_template"]?.array {
      for entry in templates {
        guard let key = entry["name"]?.string, let template = entry["template"]?.string else {
          throw ModelError(name, "tokenizer_config.json", "chat_template", reason: "an entry without name or template")
        }
        definition.chatTemplates[key] = template
      }
    }
    definition.bosToken = try tokenID("bos_token", config, in: definition) ?? definition.bosToken
    if let end = try tokenID("eos_token", config, in: definition) {
      definition.eosToken = end
      definition.eosTokens = [end]
    }
    // The tokenizer classes of these names replace tokenizer.json's post-processor by their own.
    let llamaClasses = ["LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast"]
    if llamaClasses.contains(config["tokenizer_class"]?.string ?? ""), let adds = config["add_bos_token"]?.bool {
      definition.prefixTokens = adds ? [definition.bosToken].compactMap(\.self) : []
    }
  }

  /// The id of a token, which is written as its text or as an object with the text in `content`; `nil` for null.
  private func tokenID(
    _ field: StaticString, _ config: JSONTree, in definition: TokenizerDefinition
  ) throws(ModelError) -> Int32? {
    guard let text = config[field]?.string ?? config[field]?["content"]?.string else { return nil }
    guard let id = definition.textTable.id(of: Array(text.utf8)) else {
      throw ModelError(name, "tokenizer_config.json", "\(field)", reason: "'\(text)' is not in the vocabulary")
    }
    return id
  }

  /// Reads the tokens that end a generation: from generation_config.json, else from config.json, else the tokenizer's own.
  private func readEndTokens(into definition: inout TokenizerDefinition) throws(ModelError) {
    let fromTokenizer = definition.eosTokens
    for file in ["generation_config.json", "config.json"] {
      guard let config = try json(file) else { continue }
      if definition.bosToken == nil { definition.bosToken = try tokens(config["bos_token_id"], file, definition).first }
      if definition.eosTokens == fromTokenizer {
        let tokens = try tokens(config["eos_token_id"], file, definition)
        definition.eosTokens = tokens + fromTokenizer.filter { !tokens.contains($0) }
      }
    }
    if definition.bosToken == nil { definition.bosToken = definition.prefixTokens.first }
  }

  private func tokens(
    _ value: JSONTree?, _ file: String, _ definition: TokenizerDefinition
  ) throws(ModelError) -> [Int32] {
    guard let value else { return [] }
    var ids: [Int32] = []
    for element in value.array ?? [value] {
      guard let id = element.tokenID else {
        throw ModelError(name, file, "bos_token_id or eos_token_id", reason: "no token id")
      }
      // Some configurations name ids beyond the vocabulary, for tokens that are never generated.
      if id < definition.texts.count { ids.append(id) }
    }
    return ids
  }
}
