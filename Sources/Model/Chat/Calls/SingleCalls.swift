import Formats

/// A chat in which each message has one call at most, for templates that refuse more. A call's result follows its call.
struct SingleCalls {
  private(set) var messages: [JSONValue] = []
  /// The index that each message has in the given chat.
  private(set) var indices: [Int?] = []

  init(_ given: [JSONValue]) {
    var index = 0
    while index < given.count {
      let calls = given[index].object?["tool_calls"]?.array ?? []
      guard calls.count > 1 else {
        add(given[index], index)
        index += 1
        continue
      }
      var results = Array(given.indices[(index + 1)...].prefix { given[$0].object?["role"] == "tool" })
      let next = index + 1 + results.count
      for (number, call) in calls.enumerated() {
        add(Self.message(given[index], with: call, isFirst: number == 0), index)
        let own = results.filter { given[$0].object?["tool_call_id"] == call.object?["id"] }
        results.removeAll(where: own.contains)
        for result in own { add(given[result], result) }
      }
      for result in results { add(given[result], result) }
      index = next
    }
  }

  private mutating func add(_ message: JSONValue, _ index: Int) {
    messages.append(message)
    indices.append(index)
  }

  /// The message with one of its calls. Its text stands before the first one.
  private static func message(_ message: JSONValue, with call: JSONValue, isFirst: Bool) -> JSONValue {
    var pairs: [(key: String, value: JSONValue)] = [("tool_calls", [call])]
    for (key, value) in message.object?.pairs ?? [] where key != "tool_calls" {
      pairs.append((key, key == "content" && !isFirst ? "" : value))
    }
    return .object(JSONObject(keepingFirst: pairs))
  }
}
