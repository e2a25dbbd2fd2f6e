@testable import Tokenization
import Formats
import Foundation
import TestSupport
import Testing

@testable import Model

/// Special tokens that a message spells out are text; all else is tokenised as it is in the whole rendering.
@Suite struct SpelledTokenTests {
  private static func special(_ ids: [Int32], _ tokenizer: Tokenizer) -> [Int32] { ids.filter(tokenizer.isSpecial) }

  /// Every template with its own special tokens and with the fixtures' tokenizers.
  @Test func chatsThatSpellNoneHaveTheIDsOfTheirRendering() throws {
    let tokenizers = try ["hf", "tokenizers/llama2", "tokenizers/llama3", "tokenizers/qwen2"].map {
      try TokenizerFixture.tokenizer($0)
    }
    var count = 0
    for template in try RealTemplate.all() {
      for tokenizer in [template.tokenizer] + tokenizers {
        let format = try ChatFormat(tokenizer, template: template.source, name: template.name)
        for (name, messages, tools) in RealTemplate.chats {
          for asks in [true, false] {
            let chat = Conversation(messages: messages, tools: tools, addsGenerationPrompt: asks)
            guard let text = try? format.render(chat) else { continue }
            let isEqual =
              try format.tokens(chat) == tokenizer.encode(text, parsingSpecialTokens: true, addingBOS: false)
            #expect(isEqual, "\(template.name), \(name)")
            // An answer can be located in the tokens, whatever the tokenizer puts before a text.
            if name == "turns", !asks, !text.contains("\u{2581}") {
              #expect(throws: Never.self, "\(template.name), \(tokenizer.vocabularySize) tokens, \(text.prefix(20))") {
                let learnt = try format.labelled(chat, learnt: [3])
                #expect(learnt.messages.contains(3) && learnt.tokens.count > 10, "\(template.name)")
              }
            }
            count += 1
          }
        }
      }
    }
    #expect(count > 3000, "\(count)")
  }

  /// The same chat with a word in the place of the spelled token has the same special tokens.
  @Test func whatAMessageSpellsIsText() throws {
    var count = 0
    for template in try RealTemplate.all() {
      let (format, tokenizer) = (try template.format, template.tokenizer)
      for spelled in template.specialTexts.prefix(12) {
        func ids(_ word: String) throws -> (ids: [Int32], text: String)? {
          let chat = Conversation(messages: Self.messages(word), tools: [Self.tool(word)])
          guard let text = try? format.render(chat) else { return nil }
          return (try format.tokens(chat), text)
        }
        guard let plain = try ids("qqq"), let spelling = try ids(spelled), spelling.text.contains(spelled) else {
          continue
        }
        // Some templates ask whether a message contains one of their own tokens.
        guard spelling.text == plain.text.replacing("qqq", with: spelled) else { continue }
        let place = "\(template.name), \(spelled)"
        let isSame = Self.special(plain.ids, tokenizer) == Self.special(spelling.ids, tokenizer)
        #expect(isSame, "\(place)")
        #expect(tokenizer.decode(spelling.ids, skippingSpecialTokens: false) == spelling.text, "\(place)")
        let labelled = try format.labelled(
          Conversation(messages: Self.messages(spelled), tools: [Self.tool(spelled)], addsGenerationPrompt: true))
        let isPlain = Self.special(labelled.tokens, tokenizer).count <= Self.special(plain.ids, tokenizer).count
        #expect(isPlain, "\(place), in training")
        count += 1
      }
    }
    #expect(count > 150, "\(count)")
  }

  private static func messages(_ word: String) -> [JSONValue] {
    [
      RealTemplate.user("Say \(word)"),
      [
        "role": "assistant", "content": "",
        "tool_calls": [
          [
            "id": "abcdef123", "type": "function",
            "function": ["name": "get_weather", "arguments": ["city": .string("in \(word) x")]],
          ]
        ],
      ],
      ["role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": .string("is \(word)\n")],
      RealTemplate.assistant("I say: \(word)"), RealTemplate.user("\(word)\n \(word) end"),
    ]
  }

  private static func tool(_ word: String) -> JSONValue {
    [
      "type": "function",
      "function": [
        "name": "get_weather", "description": .string("as \(word)"),
        "parameters": ["type": "object", "properties": ["city": ["type": "string", "description": .string(word)]]],
      ],
    ]
  }

  /// A token of which the message writes a part, and one around the message's edge.
  @Test func tokensThatReachIntoAMessageAreText() throws {
    let tokenizer = try TinyTokenizer.with(specialTokens: ["<|a|>", "<|a|>x"])
    let format = try ChatFormat(
      tokenizer, template: "<|a|>{{ messages[0].content }}<|a|><|{{ messages[0].content }}|>", name: "test")
    func tokens(_ content: String) throws -> [Int32] {
      try format.tokens(Conversation(messages: [RealTemplate.user(content)]))
    }
    let token = try #require(tokenizer.id(of: "<|a|>"))
    func bytes(_ text: String) -> [Int32] { text.utf8.map { TinyTokenizer.token($0) } }
    #expect(try tokens("a") == [token] + bytes("a") + [token] + bytes("<|a|>"))
    // The longer token would begin in the template's text.
    #expect(try tokens("x") == [token] + bytes("x") + [token] + bytes("<|x|>"))
    #expect(try tokens("|a|>") == [token] + bytes("|a|>") + [token] + bytes("<||a|>|>"))
  }

  /// Only bytes of the ranges keep a token from being matched.
  @Test func rangesAreExact() throws {
    let tokenizer = try TinyTokenizer.with(specialTokens: ["<|a|>"])
    for (ranges, isMatched) in [
      ([], true), ([0..<2], true), ([7..<9], true), ([0..<2, 7..<8], true), ([0..<3], false), ([6..<7], false),
      ([4..<5], false), ([0..<1, 3..<4], false), ([2..<7], false),
    ] as [([Range<Int>], Bool)] {
      let ids = tokenizer.encode("xy<|a|>zz", parsingSpecialTokens: true, except: ranges)
      #expect(ids.contains(where: tokenizer.isSpecial) == isMatched, "\(ranges)")
      #expect(tokenizer.decode(ids, skippingSpecialTokens: false) == "xy<|a|>zz")
    }
  }

  /// Added tokens that are not special are found in data too.
  @Test func otherAddedTokensAreFound() throws {
    let tokenizer = try TokenizerFixture.tokenizer("tokenizers/llama3")
    for text in ["ab<mark> c", "a word b", "aNORMb", "<|begin|>a<mark><|end|>"] {
      let all = 0..<text.utf8.count
      let found = tokenizer.encode(text, parsingSpecialTokens: true, except: [all], addingBOS: false)
      let whole = tokenizer.encode(text, parsingSpecialTokens: true, addingBOS: false)
      #expect(found.filter { $0 >= 702 } == whole.filter { $0 >= 702 } && !found.contains(where: tokenizer.isSpecial))
    }
  }

  /// A special token that is looked for in normalized text, where places have moved.
  @Test func normalizedSpecialTokens() throws {
    var json = #"""
      {"model":{"vocab":{"a":0,"b":1,"<":2,">":3,"▁":4,"é":5,"ü":9},"merges":[]},"decoder":{"type":"Fuse"},
      "normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
      "added_tokens":[{"id":6,"content":"<a b>","special":true,"normalized":true},
      {"id":7,"content":"<b>","special":false,"normalized":true}]}
      """#
    let tree = try json.withUTF8 { try JSONTree($0) }
    let tokenizer = Tokenizer(try TokenizerJSONReader(tree, subject: "m").definition())
    let special: [Int32] = [6]
    let spelled: [Int32] = [2, 0, 4, 1, 3]
    let pieces = ["<a b>", "e\u{301}", " ", "a", "<b>", "u\u{308} "]
    let ids: [[Int32]] = [special, [5], [4], [0], [7], [9, 4]]
    var random = TinyRandom(seed: 5)
    for _ in 0..<500 {
      var (text, expected, data) = ("", [Int32](), [Range<Int>]())
      for _ in 0..<Int.random(in: 0...8, using: &random) {
        let choice = Int.random(in: 0..<pieces.count, using: &random)
        let isData = Bool.random(using: &random)
        let start = text.utf8.count
        text += pieces[choice]
        expected += isData && choice == 0 ? spelled : ids[choice]
        guard isData else { continue }
        if data.last?.upperBound == start {
          data[data.count - 1] = data[data.count - 1].lowerBound..<text.utf8.count
        } else {
          data.append(start..<text.utf8.count)
        }
      }
      let found = tokenizer.encode(text, parsingSpecialTokens: true, except: data, addingBOS: false)
      #expect(found == expected, "\(text.debugDescription), \(data)")
    }
  }

  /// Moving places changes nothing of what comes out.
  @Test func normalizingWithPlacesGivesTheSameText() {
    var random = TinyRandom(seed: 6)
    let all: [NormalizerStep] = [
      .nfc, .nfd, .nfkc, .nfkd, .prepend(Array("▁".utf8)), .replace(Array(" ".utf8), with: Array("▁".utf8)),
      .replace(Array("ab".utf8), with: []), .replace(Array("a".utf8), with: Array("aa".utf8)),
    ]
    for _ in 0..<2000 {
      let steps = (0..<Int.random(in: 0...3, using: &random)).map { _ in
        all[Int.random(in: 0..<all.count, using: &random)]
      }
      let normalizer = Normalizer(steps: steps)
      let text = Array((TokenizerFixture.randomText(&random) + "ab e\u{301}\u{323} \u{1112}\u{1161}\u{11AB}").utf8)
      var places = (0..<4).map { _ in Int.random(in: 0...text.count, using: &random) }.sorted()
      let isStart = Bool.random(using: &random)
      var start = isStart ? text.withUnsafeBufferPointer { $0.endOfCharacter(at: 0) } : 0
      let found = text.withUnsafeBufferPointer {
        normalizer.normalize($0, startsText: true, moving: &places, start: &start)
      }
      #expect(found == normalizer.normalize(text), "\(steps)")
      #expect((0...found.count).contains(start) && String(validating: found[..<start], as: UTF8.self) != nil)
      #expect(places == places.sorted() && places.allSatisfy { (0...found.count).contains($0) })
    }
  }
}
