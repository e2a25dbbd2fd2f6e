/// A call of a tool that a model has written.
public struct ToolCall: Sendable, Equatable {
  public var name: String
  /// A JSON object, as text.
  public var arguments: String

  public init(name: String, arguments: String) {
    self.name = name
    self.arguments = arguments
  }
}

/// How a model family writes its calls.
public enum ToolCallForm: Sendable {
  /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, among text: Hermes, Qwen.
  case tagged
  /// The whole answer is one JSON object, several with semicolons between them, or a list of them: Llama 3, Mistral.
  case bare
}

/// Finds calls in an answer as it comes; what is none stays text, letter for letter.
public struct ToolCallParser: Sendable {
  private enum Phase {
    /// Text, in which a call may begin.
    case text
    /// Behind an opening tag.
    case call
    /// Nothing more can be a call.
    case done
  }

  private let form: ToolCallForm
  private let names: Set<String>
  private var phase = Phase.text
  private var held: [UInt8] = []
  /// Bytes of `held` in which the tag does not begin.
  private var searched = 0
  private var isBehindCall = false

  private static let opening = Array("<tool_call>".utf8)
  private static let closing = Array("</tool_call>".utf8)

  /// - Parameter names: of the tools that were offered; a call of another is text
  public init(_ form: ToolCallForm, names: Set<String>) {
    self.form = form
    self.names = names
  }

  /// Takes in a piece of the answer; returns what is certain by now.
  public mutating func push(_ piece: String) -> (text: String, calls: [ToolCall]) {
    held += piece.utf8
    var shown: [UInt8] = []
    var calls: [ToolCall] = []
    switch form {
    case .bare: shown = passBare()
    case .tagged:
      while step(&shown, &calls) {}
    }
    return (String(decoding: shown, as: UTF8.self), calls)
  }

  /// What is left when the answer has ended.
  public mutating func finish() -> (text: String, calls: [ToolCall]) {
    defer { held = [] }
    let rest = String(decoding: held, as: UTF8.self)
    switch (form, phase) {
    case (.bare, .text):
      let calls = bareCalls()
      return calls.isEmpty ? (rest, []) : ("", calls)
    case (.tagged, .call):
      // Some models end their turn in the place of the closing tag.
      if let call = call(held[...]) { return ("", [call]) }
      return (String(decoding: Self.opening, as: UTF8.self) + rest, [])
    default: return (rest, [])
    }
  }

  // MARK: calls between tags

  private mutating func step(_ shown: inout [UInt8], _ calls: inout [ToolCall]) -> Bool {
    if phase == .call {
      guard let end = find(Self.closing) else { return false }
      if let call = call(held[..<end]) {
        calls.append(call)
        isBehindCall = true
      } else {
        shown += Self.opening + held[..<(end + Self.closing.count)]
      }
      drop(end + Self.closing.count)
      phase = .text
      return true
    }
    // The line break behind a call belongs to it.
    if isBehindCall {
      drop(held.prefix(while: Self.isSpace).count)
      if held.isEmpty { return false }
    }
    if let start = find(Self.opening) {
      let text = held[..<start]
      shown += text.prefix(text.count - text.reversed().prefix(while: Self.isSpace).count)
      drop(start + Self.opening.count)
      phase = .call
      isBehindCall = false
      return true
    }
    var end = held.count - Self.lengthOfBeginning(Self.opening, at: held)
    while end > 0, Self.isSpace(held[end - 1]) { end -= 1 }
    if end > 0 { isBehindCall = false }
    shown += held[..<end]
    drop(end)
    return false
  }

  private mutating func drop(_ count: Int) {
    held.removeFirst(count)
    searched = 0
  }

  private mutating func find(_ tag: [UInt8]) -> Int? {
    var index = searched
    while index + tag.count <= held.count {
      if held[index] == tag[0], held[index...].starts(with: tag) { return index }
      index += 1
    }
    searched = index
    return nil
  }

  /// Bytes at the end of `text` that the tag begins with.
  private static func lengthOfBeginning(_ tag: [UInt8], at text: [UInt8]) -> Int {
    for length in stride(from: min(tag.count - 1, text.count), to: 0, by: -1)
    where text.suffix(length).elementsEqual(tag.prefix(length)) { return length }
    return 0
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  // MARK: calls that are the answer

  private mutating func passBare() -> [UInt8] {
    if phase == .text {
      guard let first = held.first(where: { !Self.isSpace($0) }) else { return [] }
      if first == UInt8(ascii: "{") || first == UInt8(ascii: "[") { return [] }
      phase = .done
    }
    defer { held = [] }
    return held
  }

  private func bareCalls() -> [ToolCall] {
    if let value = try? JSONValue.parse(held, subject: "call") {
      let calls = (value.array ?? [value]).compactMap(call)
      return calls.count == (value.array?.count ?? 1) ? calls : []
    }
    let parts = held.split(separator: UInt8(ascii: ";"))
    let calls = parts.compactMap { call($0) }
    return calls.count == parts.count ? calls : []
  }

  // MARK: one call

  private func call(_ text: ArraySlice<UInt8>) -> ToolCall? {
    (try? JSONValue.parse(text, subject: "call")).flatMap(call)
  }

  private func call(_ value: JSONValue) -> ToolCall? {
    guard let object = value.object, let name = object["name"]?.string, names.contains(name) else { return nil }
    switch object["arguments"] ?? object["parameters"] {
    case nil, .null: return ToolCall(name: name, arguments: "{}")
    case .object(let arguments):
      return ToolCall(name: name, arguments: String(decoding: JSONValue.object(arguments).encoded, as: UTF8.self))
    // A string of JSON, as on OpenAI's wire.
    case .string(let text):
      guard let parsed = try? JSONValue.parse(Array(text.utf8), subject: "call"), parsed.object != nil else {
        return nil
      }
      return ToolCall(name: name, arguments: text)
    default: return nil
    }
  }
}
