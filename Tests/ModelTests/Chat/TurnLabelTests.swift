import Tokenization
import Formats
import Foundation
import Model
import TestSupport
import Testing

/// What is learnt of a chat. The oracle is the difference between two renderings of the template: what the model is given
/// when it has to write a turn, and the chat through that turn.
@Suite struct TurnLabelTests {
  /// What a chat that ends with this message renders behind the prompt which asks for it, through the token that ends the
  /// turn; `nil` where the prompt is not how that chat begins.
  private func turn(
    _ template: RealTemplate, _ chat: Conversation, _ message: Int, of whole: [Int32]
  ) throws -> (prompt: [Int32], own: [Int32])? {
    let (format, tokenizer) = (try template.format, template.tokenizer)
    func tokens(_ count: Int, asks: Bool) -> [Int32]? {
      var part = chat
      part.messages = Array(chat.messages[..<count])
      part.addsGenerationPrompt = asks
      return (try? format.render(part)).map { tokenizer.encode($0, parsingSpecialTokens: true, addingBOS: false) }
    }
    guard let prompt = tokens(message, asks: true), let through = tokens(message + 1, asks: false),
      through.starts(with: prompt)
    else { return nil }
    var own = Array(through[prompt.count...])
    func isSpace(_ id: Int32) -> Bool {
      tokenizer.decode([id], skippingSpecialTokens: false).allSatisfy(\.isWhitespace)
    }
    if let end = own.firstIndex(where: tokenizer.eosTokens.contains) {
      own = Array(own[...end])
    } else if let end = own.lastIndex(where: tokenizer.isSpecial), own[(end + 1)...].allSatisfy(isSpace) {
      own = Array(own[...end])
    } else if whole.starts(with: through) {
      // Some templates write the end of a turn only where another one follows.
      let rest = whole.dropFirst(through.count)
      let space = rest.prefix(while: isSpace)
      if let next = rest.dropFirst(space.count).first, tokenizer.eosTokens.contains(next) { own += space + [next] }
    }
    return (prompt, own)
  }

  @Test func everyTurnOfEveryTemplateIsLearntBehindItsPrompt() throws {
    var (exact, other) = (0, 0)
    for template in try RealTemplate.all() where !template.source.contains("endgeneration") {
      let format = try template.format
      for (name, messages, tools) in RealTemplate.chats {
        let chat = Conversation(messages: messages, tools: tools, addsGenerationPrompt: false)
        guard let text = try? format.render(chat) else { continue }
        let labelled = try format.labelled(chat)
        #expect(template.tokenizer.decode(labelled.tokens, skippingSpecialTokens: false) == text)
        for message in messages.indices where messages[message].object?["role"] == "assistant" {
          let found = zip(labelled.tokens, labelled.messages).filter { $1 == message }.map(\.0)
          let place = "\(template.name), \(name), message \(message)"
          func text(_ ids: [Int32]) -> String { template.tokenizer.decode(ids, skippingSpecialTokens: false) }
          if let expected = try turn(template, chat, message, of: labelled.tokens),
            labelled.tokens.starts(with: expected.prompt + expected.own)
          {
            let isRight = found == expected.own
            #expect(isRight, "\(place): \(text(found).debugDescription), not \(text(expected.own).debugDescription)")
            exact += 1
            continue
          }
          // Where the chat does not begin as the prompt does, as where earlier thinking is left out: the message's own text
          // and nothing of the other messages.
          let own = messages[message].object
          let answer = own?["content"]?.string?.split(separator: "\n").last.map(String.init) ?? "get_weather"
          let isOwn =
            text(found).contains(answer)
            && !["Hello", "now?", "Weather", "temperature", "And in", "assistant\n"].contains(
              where: text(found).contains)
          #expect(isOwn, "\(place): \(text(found).debugDescription) of \(text(labelled.tokens).debugDescription)")
          other += 1
        }
      }
    }
    #expect(exact > 500 && other > 20, "\(exact) and \(other)")
  }

  @Test func onlyWhatIsLearntIsLocated() throws {
    let tokenizer = try TinyTokenizer.with(specialTokens: [])
    let format = try ChatFormat(
      tokenizer,
      template: "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|end|>\n{% endfor %}"
        + "{% if add_generation_prompt %}<assistant>{% endif %}", name: "test")
    let chat = Conversation(messages: RealTemplate.chats[0].messages)
    let all = try format.labelled(chat).messages
    #expect(Set(all.compactMap(\.self)) == [1, 3])
    #expect(try format.labelled(chat, learnt: [3]).messages == all.map { $0 == 3 ? 3 : nil })
    #expect(try format.labelled(chat, learnt: []).messages.allSatisfy { $0 == nil })
  }

  private func learnt(_ template: String, _ messages: [JSONValue]) throws -> String {
    let tokenizer = try TinyTokenizer.with(specialTokens: ["<|im_start|>"])
    let format = try ChatFormat(tokenizer, template: template, name: "test")
    let labelled = try format.labelled(Conversation(messages: messages))
    let ids = zip(labelled.tokens, labelled.messages).map { $1 == nil ? TinyTokenizer.token(UInt8(ascii: "_")) : $0 }
    return tokenizer.decode(ids, skippingSpecialTokens: false)
  }

  private let talk = [
    RealTemplate.user("hi"), RealTemplate.assistant("yo"), RealTemplate.user("hi"), RealTemplate.assistant("yo"),
  ]

  @Test func generationBlocksSayWhatIsLearnt() throws {
    let found = try learnt(
      "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}[{{ m.content }}]{% endgeneration %}"
        + "<|end|>{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}", talk)
    #expect(found.replacing("_", with: "") == "[yo][yo]")
    let empty = try learnt(
      "{% for m in messages %}{{ m.role }}:{% generation %}{% if m.role == 'assistant' %}a<|end|>{% endif %}"
        + "{% endgeneration %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
      [talk[0], RealTemplate.assistant(""), talk[2], RealTemplate.assistant("")])
    #expect(empty.replacing("_", with: "") == "a<|end|>a<|end|>")
  }

  /// Without a generation prompt the model has to write the header too.
  @Test func withoutAGenerationPromptTheWholeTurnIsLearnt() throws {
    let found = try learnt("{% for m in messages %}<{{ m.role }}>{{ m.content }}<|end|>\n{% endfor %}", talk)
    #expect(found.replacing("_", with: "") == "<assistant>yo<|end|><assistant>yo<|end|>")
  }

  /// A generation prompt that opens a thought which earlier turns do not show.
  @Test func whereTurnAndPromptPartLossBegins() throws {
    let found = try learnt(
      "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</t>')[-1] }}<|end|>{% endfor %}"
        + "{% if add_generation_prompt %}<assistant><t>{% endif %}",
      [talk[0], RealTemplate.assistant("a</t>yo"), talk[2], RealTemplate.assistant("<t>b</t>ya")])
    #expect(found.replacing("_", with: "") == "yo<|end|>ya<|end|>")
  }
}
