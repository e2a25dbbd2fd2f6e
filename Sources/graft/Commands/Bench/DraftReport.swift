import Foundation
import Formats
import Serve

/// What drafts gain along given answers, at given times of passes.
struct DraftReport {
  /// The answers with one name, which share what the engine learns.
  private struct Case {
    let name: String
    let milliseconds: [Double]
    var replay: DraftReplay
  }

  private var cases: [Case] = []

  /// - Parameter path: a file of lines of JSON, each with `name`, `prompt`, `answer` and `pass_ms`
  init(path: String) throws {
    for (index, line) in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").enumerated() {
      let object = try JSONValue.parse(Array(line.utf8), subject: path).object
      func tokens(_ key: String) -> [Int32]? {
        guard let values = object?[key]?.array else { return nil }
        let tokens = values.compactMap { $0.integer.flatMap(Int32.init(exactly:)) }.filter { $0 >= 0 }
        return tokens.count == values.count ? tokens : nil
      }
      guard let name = object?["name"]?.string, let prompt = tokens("prompt"), let answer = tokens("answer"),
        let times = object?["pass_ms"]?.array, let milliseconds = Self.times(times)
      else {
        throw ModelError(
          path, reason: "line \(index + 1) is no object with name, prompt and answer as tokens, and pass_ms")
      }
      let position = cases.firstIndex { $0.name == name && $0.milliseconds == milliseconds } ?? cases.count
      if position == cases.count {
        cases.append(
          Case(name: name, milliseconds: milliseconds, replay: DraftReplay(seconds: milliseconds.map { $0 / 1000 })))
      }
      cases[position].replay.decode(answer, after: prompt)
    }
    guard !cases.isEmpty else { throw ModelError(path, reason: "has no line") }
  }

  /// At most the times of passes with 1 to 64 rows.
  private static func times(_ values: [JSONValue]) -> [Double]? {
    let times = values.compactMap(\.double).filter { $0 > 0 && $0.isFinite }
    return times.count == values.count && (1...7).contains(times.count) ? times : nil
  }

  func printTable() {
    for one in cases {
      let gain = one.replay.time.plain / one.replay.time.drafting
      print(
        "\(one.name): \(String(format: "%.2f", gain)) times as fast; "
          + "\(one.replay.tokens.accepted) of \(one.replay.tokens.drafted) drafted tokens right")
    }
  }

  func printJSON() {
    let rows = cases.map { one -> JSONValue in
      [
        "name": .string(one.name), "gain": .number(one.replay.time.plain / one.replay.time.drafting),
        "drafted": .integer(one.replay.tokens.drafted), "accepted": .integer(one.replay.tokens.accepted),
      ]
    }
    print(String(decoding: JSONValue.array(rows).encoded, as: UTF8.self))
  }
}
