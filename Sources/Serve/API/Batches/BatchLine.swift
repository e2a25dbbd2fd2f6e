import Formats
import Foundation

/// A request of a batch: one line of its input file.
struct BatchLine: Sendable {
  /// From 1.
  let number: Int
  let customID: String
  let body: RequestFields

  static let maximumIDBytes = 512

  /// - Throws: what is wrong with the line; the body's fields are checked when it runs
  init(_ text: [UInt8], number: Int, endpoint: GenerationEndpoint) throws(Batch.Problem) {
    self.number = number
    func problem(_ code: String, _ message: String, _ param: String?) -> Batch.Problem {
      Batch.Problem(code: code, message: message, param: param, line: number)
    }
    let object: JSONObject
    do {
      guard case .object(let parsed) = try JSONValue.parse(text, subject: "line", limits: endpoint.limits.json) else {
        throw problem("invalid_json_line", "The line is no JSON object", nil)
      }
      object = parsed
    } catch let error as Batch.Problem { throw error } catch {
      throw problem(
        "invalid_json_line", "The line is not valid JSON: \((error as? ModelError)?.reason ?? "\(error)")", nil)
    }
    guard let id = object["custom_id"]?.string, !id.isEmpty, id.utf8.count <= Self.maximumIDBytes else {
      throw problem(
        "missing_required_parameter", "'custom_id' must be a string of at most \(Self.maximumIDBytes) bytes",
        "custom_id")
    }
    guard object["method"] == "POST" else { throw problem("invalid_method", "'method' must be 'POST'", "method") }
    guard object["url"]?.string == endpoint.rawValue else {
      throw problem("mismatched_url", "'url' must be the batch's endpoint, '\(endpoint.rawValue)'", "url")
    }
    guard let body = object["body"]?.object else {
      throw problem("missing_required_parameter", "'body' must be an object", "body")
    }
    customID = id
    self.body = RequestFields(body)
  }

  /// A line of a result file.
  /// - Parameters:
  ///   - status: of the response
  ///   - response: the response's body, one line of JSON
  static func result(_ customID: String, status: Int, response: [UInt8]) -> [UInt8] {
    let head: JSONValue = ["id": .string(RandomName.make("batch_req_", length: 24)), "custom_id": .string(customID)]
    let request = RandomName.make("req_", length: 24)
    return head.encoded.dropLast()
      + Array(#","response":{"status_code":\#(status),"request_id":"\#(request)","body":"#.utf8) + response
      + Array("},\"error\":null}\n".utf8)
  }

  /// A line of the error file for a request that got no response.
  static func unanswered(_ customID: String, code: String, message: String) -> [UInt8] {
    let line: JSONValue = [
      "id": .string(RandomName.make("batch_req_", length: 24)), "custom_id": .string(customID), "response": .null,
      "error": ["code": .string(code), "message": .string(message)],
    ]
    return line.encoded + [UInt8(ascii: "\n")]
  }
}

/// Reads an input file line by line.
struct BatchReader {
  /// A line is as long as the body of a request may be.
  static let maximumLineBytes = 16 << 20
  private static let chunkSize = 1 << 20

  private let handle: FileHandle
  private var buffer: [UInt8] = []
  /// Where the part of `buffer` begins that was not returned yet.
  private var start = 0
  /// Where the part of `buffer` begins in which no end of a line was looked for.
  private var searched = 0
  private var isAtEnd = false
  private var number = 0

  init(_ url: URL) throws { handle = try FileHandle(forReadingFrom: url) }

  /// The next line that is not empty; `nil` at the end.
  /// - Throws: `Batch.Problem` for a line that is too long, or the system's error
  mutating func next() throws -> (number: Int, text: [UInt8])? {
    while let line = try nextLine() {
      number += 1
      if !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { return (number, line) }
    }
    return nil
  }

  private mutating func nextLine() throws -> [UInt8]? {
    while true {
      if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        defer { (start, searched) = (end + 1, end + 1) }
        return Array(buffer[start..<end])
      }
      searched = buffer.count
      if isAtEnd {
        guard start < buffer.count else { return nil }
        defer { start = buffer.count }
        return Array(buffer[start...])
      }
      guard buffer.count - start <= Self.maximumLineBytes else {
        throw Batch.Problem(
          code: "invalid_json_line", message: "The line is over \(Self.maximumLineBytes) bytes", line: number + 1)
      }
      buffer.removeFirst(start)
      (start, searched) = (0, buffer.count)
      let chunk = try handle.read(upToCount: Self.chunkSize) ?? Data()
      if chunk.isEmpty { isAtEnd = true }
      buffer += chunk
    }
  }
}
