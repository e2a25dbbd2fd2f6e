import Formats
import Foundation
import TestSupport
import Testing
import Tokenization

@testable import Model

/// The form of calls that is read in a template.
@Suite struct CallFormTests {
  /// Published templates whose calls are not names with JSON arguments behind a mark.
  private static let unread: Set<String> = [
    "ByteDance-Seed-OSS", "CohereForAI-c4ai-command-r-plus-tool_use", "GLM-4.6", "GLM-4.7-Flash", "Kimi-K3",
    "LFM2.5-8B-A1B", "MiniMax-M2", "MiniMax-M3", "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "Qwen3-Coder", "Qwen3.5-4B",
    "Spark2.5", "deepseek-ai-DeepSeek-V3.2", "deepseek-ai-DeepSeek-V4", "google-gemma-4-31B-it",
    "inclusionai-ling-3.0-flash", "meetkai-functionary-medium-v3.2", "muse-glimmer", "openai-gpt-oss-120b",
    "openbmb-MiniCPM5-1B", "poolside-Laguna-S-2.1", "poolside-Laguna-XS-2.1", "poolside-Laguna-XS.2", "tencent-Hy3",
  ]
  /// Published templates that do not show two calls of one message.
  private static let single: Set<String> = [
    "GigaChat3.1-10B-A1.8B", "fireworks-ai-llama-3-firefunction-v2", "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct", "meta-llama-Llama-3.3-70B-Instruct", "openai-gpt-oss-120b",
  ]

  /// What comes behind the question in a chat whose last message has calls, as clients get it: without special tokens but those
  /// of calls. `nil` if the template does not show the calls.
  private func answer(_ template: RealTemplate, _ format: ChatFormat, _ cities: [String]) -> String? {
    let chat = Conversation(
      messages: [RealTemplate.user("Which one?"), RealTemplate.calls(cities)], tools: [RealTemplate.tool],
      addsGenerationPrompt: false)
    guard
      let text = (try? format.labelled(chat))
        .map({ template.tokenizer.decode($0.tokens, skippingSpecialTokens: false) }),
      let start = text.range(of: "Which one?")?.upperBound,
      cities.allSatisfy(text.contains)
    else { return nil }
    let marks = Set(format.callTokens.compactMap(template.tokenizer.tokenText))
    return template.specialTexts.filter { !marks.contains($0) }.reduce(String(text[start...])) {
      $0.replacing($1, with: "")
    }
  }

  @Test func callsAreReadAsPublishedTemplatesWriteThem() throws {
    var (unread, single): (Set<String>, Set<String>) = ([], [])
    for template in try RealTemplate.all() {
      let format = try template.format
      let name = String(template.name.dropLast(".jinja".count))
      let prompt = Conversation(messages: [RealTemplate.user("Hi")], tools: [RealTemplate.tool])
      let warnings = (try? format.prompt(prompt))?.warnings ?? []
      for cities in [["Oslo"], ["Oslo", "Rome"]] {
        guard let answer = answer(template, format, cities) else {
          single.insert(name)
          continue
        }
        for pieces in [[answer], answer.map(String.init)] {
          var parser = ToolCallParser(format.toolCallForm, names: ["get", "get_weather", "get_weather_of"])
          var (text, calls) = ("", [ToolCall]())
          for part in pieces.map({ parser.push($0) }) + [parser.finish()] {
            text += part.text
            calls += part.calls
          }
          if calls != cities.map({ ToolCall(name: "get_weather", arguments: "{\"city\":\"\($0)\"}") }) {
            unread.insert(name)
          } else {
            #expect(!text.contains("Oslo"), "\(name): \(text)")
          }
        }
      }
      #expect(unread.contains(name) == warnings.contains { $0.contains("not read") }, "\(name)")
    }
    #expect(unread == Self.unread, "\(unread.sorted())")
    #expect(single == Self.single, "\(single.sorted())")
  }

  private func form(_ call: String, between: String = "", special: [String] = []) throws -> ToolCallForm {
    let tokenizer = try TinyTokenizer.with(specialTokens: special)
    let format = try ChatFormat(
      tokenizer,
      template: "{{ tools | tojson if tools }}{% for m in messages %}{{ m.role }}: {% if m.tool_calls %}"
        + "{% for c in m.tool_calls %}\(call){{ '\(between)' if not loop.last }}{% endfor %}"
        + "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}", name: "test")
    return format.toolCallForm
  }

  @Test func marksAreFound() throws {
    let (name, arguments) = ("{{ c.function.name }}", "{{ c.function.arguments | tojson }}")
    let object = "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}"
    #expect(try form(object) == .bare)
    #expect(try form("<tool_call>\(object)</tool_call>") == .tagged)
    #expect(
      try form("<f=\(name)>\(arguments)</f>", between: " ")
        == .marked(
          CallMarks(
            opening: [.text("<f=")], beforeArguments: [.text(">")], between: [.text("</f> <f=")],
            closing: [.text("</f>")])))
    #expect(
      try form("[CALLS]\(name)[ID]{{ c.id }}[ARGS]\(arguments)", special: ["[CALLS]", "[ID]", "[ARGS]"])
        == .marked(
          CallMarks(
            opening: [.special("[CALLS]")],
            beforeArguments: [.optional([.special("[ID]"), .id]), .special("[ARGS]")],
            between: [.special("[CALLS]")], closing: [])))
    #expect(
      try form("<c>\(object)</c>", between: "; ")
        == .marked(
          CallMarks(
            callsAreObjects: true, opening: [.text("<c>")], between: [.text("</c>; <c>")], closing: [.text("</c>")])))
    // No JSON, or no mark.
    #expect(try form("<f>\(name)<a>{{ c.function.arguments | items | map('join', '=') | join }}</a></f>") == .bare)
    #expect(try form("call \(name) with \(arguments)") == .bare)
  }

  private static let marks = CallMarks(
    opening: [.text("[C]")], beforeArguments: [.optional([.text("[I]"), .id]), .text("[A]")], between: [.text("[C]")],
    closing: [.text("[/C]")])

  private func run(_ form: ToolCallForm, _ pieces: [String]) -> (text: String, calls: [ToolCall]) {
    var parser = ToolCallParser(form, names: ["f", "ff"])
    var result: (text: String, calls: [ToolCall]) = ("", [])
    for part in pieces.map({ parser.push($0) }) + [parser.finish()] {
      result.text += part.text
      result.calls += part.calls
    }
    return result
  }

  @Test func markedCalls() {
    let one = ToolCall(name: "f", arguments: "{\"a\":\"[C]}\"}")
    let two = ToolCall(name: "ff", arguments: "{}")
    let call = "[C]f[A]{\"a\": \"[C]}\"}"
    let deep = "[C]f[A]" + String(repeating: "{\"a\":", count: 500)
    let longID = "[C]ff[I]" + String(repeating: "a", count: 65)
    let cases: [(String, String, [ToolCall])] = [
      (call, "", [one]), (call + "[/C]", "", [one]), ("Well. \(call) [/C]\n", "Well.", [one]),
      (call + "[C]ff[I]x1[A]{}[/C] Then.", "Then.", [one, two]),
      ("[C]ff\n[A] {}", "", [two]), ("[C]g[A]{}", "[C]g[A]{}", []), ("[C]f[A]3", "[C]f[A]3", []),
      ("[C][C]ff[A]{}", "[C]", [two]), ("[C", "[C", []), ("[C]f[A]{\"a\"", "[C]f[A]{\"a\"", []),
      ("[C]f[A]{a}", "[C]f[A]{a}", []), (deep, deep, []), ("", "", []), (" a ", " a ", []), (call + " x", "x", [one]),
      (call + "[C]g[A]{}", "[C]g[A]{}", [one]), (longID, longID, []),
    ]
    for (answer, text, calls) in cases {
      for pieces in [[answer], answer.map(String.init)] {
        let result = run(.marked(Self.marks), pieces)
        #expect(result.text == text && result.calls == calls, "\(answer): \(result)")
      }
    }
  }

  @Test func markedObjects() {
    let marks = CallMarks(
      callsAreObjects: true, opening: [.text("<c>\n[")], between: [.text(", ")], closing: [.text("]</c>")])
    let object = #"{"name": "f", "arguments": {"a": 1}}"#
    let call = ToolCall(name: "f", arguments: "{\"a\":1}")
    let cases: [(String, String, [ToolCall])] = [
      ("<c>[\(object), \(object)]</c>", "", [call, call]), ("So: <c>\n\(object)\n</c>\n", "So:", [call]),
      ("<c>[\(object)]", "", [call]), ("<c>[\(object)]</", "", [call]), (object, "", [call]),
      ("<c>[\(object)]</c> and", "<c>[\(object)]</c> and", []), ("<c>", "<c>", []), ("<c>x</c>", "<c>x</c>", []),
    ]
    for (answer, text, calls) in cases {
      for pieces in [[answer], answer.map(String.init)] {
        let result = run(.marked(marks), pieces)
        #expect(result.text == text && result.calls == calls, "\(answer): \(result)")
      }
    }
  }

  @Test func anyCutGivesTheSame() {
    var random = TinyRandom(seed: 4)
    let objects = CallMarks(
      callsAreObjects: true, opening: [.text("[C] [")], between: [.text(", ")], closing: [.text("] [/C]")])
    let parts = [
      "[C]", "[/C]", "[A]", "[I]", "f", "ff", "x1", "{}", "{\"a\": 1}", "{", "}", "\"", " ", "\n", "[", "]",
      "{\"name\": \"f\"}", "[C]f[A]{}", "é", "text",
    ]
    for _ in 0..<3000 {
      let answer = (0..<Int.random(in: 0...9, using: &random)).map { _ in parts.randomElement(using: &random) ?? "" }
      for form in [ToolCallForm.marked(Self.marks), .marked(objects)] {
        let (pieces, whole) = (run(form, answer), run(form, [answer.joined()]))
        #expect(pieces.text == whole.text && pieces.calls == whole.calls, "\(answer)")
      }
    }
  }
}
