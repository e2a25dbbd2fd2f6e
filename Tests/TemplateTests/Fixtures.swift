import Foundation
import Template

/// What jinja2 makes of a template; scripts/fixtures/chat_templates.py wrote it down.
enum Expected: Equatable {
  case text(String)
  case refused(String)
  case failed(syntax: Bool)

  init(_ value: TemplateValue) {
    switch value {
    case .string(let text): self = .text(text)
    case .object(let object):
      if case .string(let message)? = object["refused"] {
        self = .refused(message)
      } else {
        self = .failed(syntax: object["error"] == "syntax")
      }
    default: self = .failed(syntax: false)
    }
  }

  /// What this engine makes of it.
  init(rendering source: String, _ variables: [String: TemplateValue]) {
    do throws(TemplateError) {
      self = .text(try ChatTemplate(source: source).render(variables, now: Fixtures.now).text)
    } catch {
      self = error.kind == .refused ? .refused(error.reason) : .failed(syntax: error.kind == .syntax)
    }
  }
}

enum Fixtures {
  static let now = TemplateTime(year: 2026, month: 3, day: 5, hour: 14, minute: 7, second: 9)

  static var folder: URL { Bundle.module.resourceURL?.appendingPathComponent("Fixtures") ?? URL(fileURLWithPath: "/") }

  static func value(_ name: String) throws -> TemplateValue {
    try JSONReader.read(Data(contentsOf: folder.appendingPathComponent(name)))
  }

  static func members(_ name: String) throws -> [TemplateObject.Member] {
    guard case .object(let object) = try value(name) else { throw FixtureError() }
    return object.members
  }

  static func source(_ template: String) throws -> String {
    String(
      decoding: try Data(contentsOf: folder.appendingPathComponent("templates/\(template).jinja")), as: UTF8.self)
  }

  static func templates() throws -> [(name: String, source: String)] {
    try FileManager.default.contentsOfDirectory(atPath: folder.appendingPathComponent("templates").path).sorted()
      .filter { $0.hasSuffix(".jinja") }.map { ($0, try source(String($0.dropLast(6)))) }
  }

  /// The chats' variables by name.
  static func chats() throws -> [String: [String: TemplateValue]] {
    var result: [String: [String: TemplateValue]] = [:]
    for chat in try members("chats.json") {
      guard case .object(let object) = chat.value else { throw FixtureError() }
      result[chat.key] = Dictionary(uniqueKeysWithValues: object.members.map { ($0.key, $0.value) })
    }
    return result
  }
}

struct FixtureError: Error {}

/// Reads JSON and keeps the order of objects. It does what the fixtures need.
struct JSONReader {
  private let bytes: [UInt8]
  private var index = 0

  static func read(_ data: Data) throws -> TemplateValue {
    var reader = JSONReader(bytes: Array(data))
    return try reader.value()
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private mutating func peek() throws -> UInt8 {
    while index < bytes.count, [9, 10, 13, 32].contains(bytes[index]) { index += 1 }
    guard index < bytes.count else { throw FixtureError() }
    return bytes[index]
  }

  private mutating func skip(_ text: String) throws {
    _ = try peek()
    guard bytes[index...].starts(with: text.utf8) else { throw FixtureError() }
    index += text.utf8.count
  }

  private mutating func elements(_ close: String, _ read: (inout JSONReader) throws -> Void) throws {
    index += 1
    while try peek() != close.utf8.first {
      try read(&self)
      if try peek() == UInt8(ascii: ",") { index += 1 }
    }
    index += 1
  }

  private mutating func value() throws -> TemplateValue {
    switch try peek() {
    case UInt8(ascii: "{"):
      var pairs: [(String, TemplateValue)] = []
      try elements("}") { reader in
        _ = try reader.peek()
        let key = try reader.string()
        try reader.skip(":")
        pairs.append((key, try reader.value()))
      }
      return .object(TemplateObject(pairs))
    case UInt8(ascii: "["):
      var items: [TemplateValue] = []
      try elements("]") { reader in items.append(try reader.value()) }
      return .array(items)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"):
      try skip("true")
      return true
    case UInt8(ascii: "f"):
      try skip("false")
      return false
    case UInt8(ascii: "n"):
      try skip("null")
      return .null
    default:
      let start = index
      while index < bytes.count, "+-.eE0123456789".utf8.contains(bytes[index]) { index += 1 }
      let text = String(decoding: bytes[start..<index], as: UTF8.self)
      if let value = Int(text) { return .int(value) }
      guard let value = Double(text) else { throw FixtureError() }
      return .double(value)
    }
  }

  private mutating func string() throws -> String {
    let start = index
    index += 1
    while index < bytes.count, bytes[index] != UInt8(ascii: "\"") {
      index += bytes[index] == UInt8(ascii: "\\") ? 2 : 1
    }
    index += 1
    guard index <= bytes.count else { throw FixtureError() }
    guard bytes[start..<index].contains(UInt8(ascii: "\\")) else {
      return String(decoding: bytes[(start + 1)..<(index - 1)], as: UTF8.self)
    }
    return try JSONDecoder().decode(String.self, from: Data(bytes[start..<index]))
  }
}
