import Formats

/// A chat in which each message has one call at most, for templates that refuse more. A call's result follows its call.
struct SingleCalls {
  private(set) var messages: [JSONValue] = []
  /// The index that each message has in the given chat.
  private(set) var indices: [Int?] = []

  /// Fields that say who speaks. A message's others, but for its calls, are what is said.
  private static let speaker: Set<String> = ["role", "name"]

  init(_ given: [JSONValue]) {
    var index = 0
    while index < given.count {
      let calls = given[index].object?["tool_calls"]?.array ?? []
      guard calls.count > 1 else {
        add(given[index], index)
        index += 1
        continue
      }
      let next = given[(index + 1)...].firstIndex { $0.object?["role"] != "tool" } ?? given.count
      // The results that no call has taken yet, by their calls' ids.
      var results = Dictionary(grouping: (index + 1)..<next) { given[$0].object?["tool_call_id"]?.string }
      for (number, call) in calls.enumerated() {
        add(Self.message(given[index], with: call, isFirst: number == 0), index)
        for result in results.removeValue(forKey: call.object?["id"]?.string) ?? [] { add(given[result], result) }
      }
      for result in results.values.joined().sorted() { add(given[result], result) }
      index = next
    }
  }

  private mutating func add(_ message: JSONValue, _ index: Int) {
    messages.append(message)
    indices.append(index)
  }

  /// The message with one of its calls. What it says stands before the first one.
  private static func message(_ message: JSONValue, with call: JSONValue, isFirst: Bool) -> JSONValue {
    let pairs = (message.object?.pairs ?? []).filter { key, _ in
      key != "tool_calls" && (isFirst || speaker.contains(key))
    }
    return .object(JSONObject(keepingFirst: pairs + [("tool_calls", [call])]))
  }
}
