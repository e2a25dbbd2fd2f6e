import Tokenization
import Formats
import Foundation
import Model
import TestSupport
import Testing

@Suite struct ChatFormatTests {
  private let model: TinyModel
  private let tokenizer: Tokenizer

  init() throws {
    model = try TinyModel(TinyShape(layers: 1))
    tokenizer = try model.tokenizer()
  }

  private func format(_ template: String) throws -> ChatFormat {
    try ChatFormat(tokenizer, template: template, name: "test")
  }

  private let plain =
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    + "{% if add_generation_prompt %}assistant:{% endif %}"

  private let talk: [JSONValue] = [["role": "user", "content": "Hi"], ["role": "assistant", "content": "Yes "]]

  @Test func withoutATemplateThereAreNoChats() throws {
    let error = #expect(throws: ModelError.self) { try ChatFormat(tokenizer, name: "tiny") }
    #expect(error == .noChatTemplate("tiny") && error?.description == "tiny: has no chat template")
  }

  @Test func aTemplateThatIsWrongIsRefusedByName() {
    let error = #expect(throws: ModelError.self) { try format("a\n{% for %}") }
    #expect(error?.description.hasPrefix("test: ") == true && error?.description.contains("line 2") == true)
  }

  @Test func messagesBecomeThePrompt() throws {
    let format = try format(plain)
    #expect(try format.render(Conversation(messages: talk)) == "user: Hi<|end|>assistant: Yes <|end|>assistant:")
    let bare = Conversation(messages: talk, addsGenerationPrompt: false)
    #expect(try format.render(bare) == "user: Hi<|end|>assistant: Yes <|end|>")
    let open = Conversation(messages: talk, continuesFinalMessage: true)
    #expect(try format.render(open) == "user: Hi<|end|>assistant: Yes")
    let tokens = try format.tokens(Conversation(messages: talk))
    #expect(tokens == tokenizer.encode(try format.render(Conversation(messages: talk)), parsingSpecialTokens: true))
    #expect(tokens.count { $0 == TinyTokenizer.endToken } == 2)
  }

  /// The template writes the beginning of sequence; it is not added once more.
  @Test func theBeginningOfSequenceComesFromTheTemplate() throws {
    #expect(try format("{{ bos_token }}x").tokens(Conversation(messages: talk)) == [0, TinyTokenizer.token(0x78)])
  }

  @Test func contentIsPutAsTheTemplateReadsIt() throws {
    let parts: JSONValue = [["type": "text", "text": "one"], ["type": "text", "text": "two"]]
    let listed: [JSONValue] = [["role": "user", "content": parts]]
    let text: [JSONValue] = [["role": "user", "content": "one"]]
    let strings = try format("{% for m in messages %}[{{ m.content + '' }}]{% endfor %}")
    #expect(try strings.render(Conversation(messages: listed)) == "[one\ntwo]")
    let printed = try format("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    #expect(try printed.render(Conversation(messages: listed)) == "[one\ntwo]")
    let lists = try format("{% for m in messages %}{% for p in m.content %}({{ p.text }}){% endfor %}{% endfor %}")
    #expect(try lists.render(Conversation(messages: listed)) == "(one)(two)")
    #expect(try lists.render(Conversation(messages: text)) == "(one)")
    let both = try format(
      "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
        + "{% for p in m.content %}({{ p.text }}){% endfor %}{% endif %}{% endfor %}")
    #expect(try both.render(Conversation(messages: listed)) == "(one)(two)")
    #expect(try both.render(Conversation(messages: text)) == "one")
  }

  @Test func theDeveloperIsTheSystemUnlessTheTemplateKnowsBetter() throws {
    let messages: [JSONValue] = [["role": "developer", "content": "x"]]
    #expect(try format(plain).render(Conversation(messages: messages)).hasPrefix("system: x"))
    let knowing = try format("{{ messages[0].role }}{# developer #}")
    #expect(try knowing.render(Conversation(messages: messages)) == "developer")
  }

  @Test func whatTheTemplateRefusesIsSaidInItsWords() throws {
    let format = try format("{{ raise_exception('roles must alternate, ' + who) }}")
    let chat = Conversation(
      messages: talk, variables: JSONObject(keepingFirst: [("who", "you"), ("messages", "not these")]))
    #expect(throws: ChatFormatError.refused("roles must alternate, you")) { try format.render(chat) }
    #expect(throws: ChatFormatError.self) { try format.render(Conversation(messages: talk)) }
  }

  @Test func theTurnsEndIsFoundInTheTemplate() throws {
    #expect(try format(plain).endTokens == [TinyTokenizer.endToken])
    #expect(try format("{% for m in messages %}{{ m.content }} \n<|end|>{% endfor %}").endTokens == [0])
    #expect(try format("{% for m in messages %}{{ m.content }} and <|end|>{% endfor %}").endTokens == [])
    #expect(try format("{% for m in messages %}{{ m.content }}\n{% endfor %}").endTokens == [])
    #expect(try format("{{ raise_exception('never') }}").endTokens == [])
  }

  @Test func callsAreReadAsTheTemplateWritesThem() throws {
    #expect(try format(plain + "{% if tools %}{{ tools | tojson }}{% endif %}").toolCallForm == .bare)
    // Where the template shows no tools, the model is told to write calls as Hermes does.
    #expect(try format(plain).toolCallForm == .tagged)
    #expect(try format(plain + "{% if tools %}<tool_call>{% endif %}").toolCallForm == .tagged)
  }
}
