public import Formats
public import Foundation

/// Reads server-sent events from the parts of a reply: the JSON of each `data:` line, up to `[DONE]`.
public struct EventParser: Sendable {
  private var rest: [UInt8] = []
  /// Whether `[DONE]` was read.
  public private(set) var isDone = false

  /// A parser at the beginning of a reply.
  public init() {}

  /// Adds a part of the reply.
  /// - Returns: the events that are complete with it; lines that are not JSON are left out
  public mutating func add(_ data: Data) -> [JSONValue] {
    rest += data
    var events: [JSONValue] = []
    var start = 0
    while let end = rest[start...].firstIndex(of: UInt8(ascii: "\n")) {
      let line = rest[start..<end]
      start = end + 1
      guard line.starts(with: "data:".utf8) else { continue }
      let text = line.dropFirst(5).drop { $0 == 0x20 }
      if text.prefix(6).elementsEqual("[DONE]".utf8) {
        isDone = true
      } else if let value = try? JSONValue.parse(text, subject: "event") {
        events.append(value)
      }
    }
    rest.removeFirst(start)
    return events
  }
}
