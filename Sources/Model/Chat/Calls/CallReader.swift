import Formats

/// What a parser has read of a call that has not ended.
enum OpenCall {
  /// JSON that has the name and the arguments, or a list of such.
  case json(ArraySlice<UInt8>)
  /// The arguments of a tool with this name.
  case arguments(ArraySlice<UInt8>, name: String)
}

/// Reads a call while it is being written: its arguments, or JSON as `{"name": "…", "arguments": {…}}`, with "parameters" for the
/// arguments, and with other strings before them, or a list of such JSON. Of other JSON it tells nothing. It tells the end of a
/// call when another one begins.
struct CallReader: Sendable {
  private enum Phase {
    /// Before the first byte.
    case start
    /// In a list, before a call.
    case list
    /// In a call, before its arguments.
    case head
    case arguments
    /// In a call, behind its arguments.
    case tail
    /// Behind the last call, or in a text that it cannot read.
    case end
  }

  private let names: Set<String>
  private var phase = Phase.start
  private var isList = false
  private var hasBegun = false
  /// The beginning of a call whose arguments have not come yet.
  private var head: [UInt8] = []
  private var writer = CompactJSONWriter()

  /// No name and nothing beside it is as long.
  private static let longestHead = 4096

  /// - Parameter names: of the tools that were offered
  init(names: Set<String>) { self.names = names }

  /// Whether the arguments of a call have begun and not ended.
  var isInArguments: Bool { phase == .arguments }
  /// Whether no parts will follow.
  var isDone: Bool { phase == .end }

  /// Begins with what has been read.
  /// - Parameter parts: gets the parts of calls in it
  mutating func begin(_ call: OpenCall, _ parts: inout [ToolCallPart]) {
    switch call {
    case .json(let json): add(json, to: &parts)
    case .arguments(let arguments, let name):
      parts.append(.begin(name: name))
      phase = .arguments
      add(arguments, to: &parts)
    }
  }

  /// Adds bytes, which are whole characters.
  /// - Parameter parts: gets the parts of calls that the bytes complete
  mutating func add(_ bytes: some Collection<UInt8>, to parts: inout [ToolCallPart]) {
    var rest = Array(bytes)[...]
    while let byte = rest.first {
      switch phase {
      case .start, .list:
        rest.removeFirst()
        enter(byte)
      case .head:
        head += rest
        rest = []
        switch readHead() {
        case .open: if head.count > Self.longestHead { phase = .end }
        case .other: phase = .end
        case .call(let name, let start):
          if hasBegun { parts.append(.end(isComplete: true)) }
          hasBegun = true
          parts.append(.begin(name: name))
          rest = head[start...]
          (phase, writer) = (.arguments, CompactJSONWriter())
        }
      case .arguments:
        var written: [UInt8] = []
        rest = rest.dropFirst(writer.add(rest, to: &written))
        if !written.isEmpty { parts.append(.arguments(String(decoding: written, as: UTF8.self))) }
        if writer.isComplete { phase = .tail }
      case .tail:
        rest.removeFirst()
        if byte == UInt8(ascii: "}") { phase = isList ? .list : .end } else if !byte.isSpace { phase = .end }
      case .end: return
      }
    }
  }

  /// Takes a byte before a call.
  private mutating func enter(_ byte: UInt8) {
    switch byte {
    case _ where byte.isSpace: break
    case UInt8(ascii: "{"): (phase, head) = (.head, [byte])
    case UInt8(ascii: "[") where phase == .start: (phase, isList) = (.list, true)
    case UInt8(ascii: ",") where phase == .list: break
    default: phase = .end
    }
  }

  // MARK: a call's head

  private enum Head {
    /// More of it is needed.
    case open
    /// No call in a form that is read here.
    case other
    /// The tool's name, and where the arguments begin.
    case call(name: String, start: Int)
  }

  private func readHead() -> Head {
    var (index, name) = (1, String?.none)
    /// The next byte that is no space.
    func next() -> UInt8? {
      while index < head.count, head[index].isSpace { index += 1 }
      return index < head.count ? head[index] : nil
    }
    /// The string that begins at the index, with its quotes; `nil` if it has not ended.
    func string() -> ArraySlice<UInt8>? {
      let start = index
      var isEscaped = false
      while index + 1 < head.count {
        index += 1
        if isEscaped {
          isEscaped = false
        } else if head[index] == UInt8(ascii: "\\") {
          isEscaped = true
        } else if head[index] == UInt8(ascii: "\"") {
          index += 1
          return head[start..<index]
        }
      }
      return nil
    }
    while true {
      guard let quote = next() else { return .open }
      guard quote == UInt8(ascii: "\"") else { return .other }
      guard let key = string(), let colon = next() else { return .open }
      guard colon == UInt8(ascii: ":") else { return .other }
      index += 1
      guard let first = next() else { return .open }
      if key.elementsEqual(#""arguments""#.utf8) || key.elementsEqual(#""parameters""#.utf8) {
        guard let name, first == UInt8(ascii: "{") else { return .other }
        return .call(name: name, start: index)
      }
      guard first == UInt8(ascii: "\"") else { return .other }
      guard let value = string() else { return .open }
      if key.elementsEqual(#""name""#.utf8) {
        name = (try? JSONValue.parse(value, subject: "name"))?.string
        guard let name, names.contains(name) else { return .other }
      }
      guard let comma = next() else { return .open }
      guard comma == UInt8(ascii: ",") else { return .other }
      index += 1
    }
  }
}
