import TestSupport
import Testing

@testable import Serve

@Suite struct MultipartTests {
  /// What a body comes to: parts with their names, file names and contents.
  private struct Part: Equatable {
    var name: String
    var filename: String?
    var contents: [UInt8] = []
    var isEnded = false
  }

  private static let type = "multipart/form-data; boundary=XyZ"

  private func parse(
    _ body: [UInt8], type: String = type, pieces: (Int) -> Int = { $0 }
  ) throws -> [Part] {
    var parser = try MultipartParser(contentType: type)
    var parts: [Part] = []
    var rest = body[...]
    while !rest.isEmpty {
      let piece = rest.prefix(max(1, pieces(rest.count)))
      rest = rest.dropFirst(piece.count)
      try piece.withUnsafeBytes { bytes in
        try parser.feed(bytes) { event in
          switch event {
          case .began(let part): parts.append(Part(name: part.name, filename: part.filename))
          case .bytes(let bytes):
            if bytes.isEmpty || parts.isEmpty { Issue.record("bytes without a part, or none") }
            parts[parts.count - 1].contents += Array(bytes)
          case .ended: parts[parts.count - 1].isEnded = true
          }
        }
      }
    }
    try parser.finish()
    return parts
  }

  private func refusal(_ body: String, type: String = type) -> String? {
    do {
      _ = try parse(Array(body.utf8), type: type)
      return nil
    } catch { return (error as? MultipartError)?.reason ?? "another error: \(error)" }
  }

  private func head(_ name: String, _ more: String = "") -> String {
    "Content-Disposition: form-data; name=\"\(name)\"\(more)\r\n\r\n"
  }

  /// Contents that look like delimiters as far as possible.
  private static let tricky = "\r\n--Xy\r\n-\r\n--\r\n\r\r\n--XyY--\r\n--xyz\r--XyZ\n--XyZ"

  private var body: [UInt8] {
    Array(
      ("a preamble\r\n--XyZ \t\r\n" + head("one", "; filename=\"C:\\dir\\a \\\"b\\\".json\"") + "{}" + "\r\n--XyZ\r\n"
        + "content-type: application/octet-stream\r\n" + head("two", "; filename=w.bin") + Self.tricky
        + "\r\n--XyZ\r\n" + head("empty") + "\r\n--XyZ--\r\nan epilogue --XyZ").utf8)
  }

  private var expected: [Part] {
    [
      Part(name: "one", filename: "C:\\dir\\a \"b\".json", contents: Array("{}".utf8), isEnded: true),
      Part(name: "two", filename: "w.bin", contents: Array(Self.tricky.utf8), isEnded: true),
      Part(name: "empty", isEnded: true),
    ]
  }

  @Test func aBodyComesApartHoweverItIsCut() throws {
    #expect(try parse(body) == expected)
    #expect(try parse(body, pieces: { _ in 1 }) == expected)
    for size in 2...40 { #expect(try parse(body, pieces: { _ in size }) == expected, "\(size)") }
    var random = TinyRandom(seed: 5)
    for _ in 0..<500 {
      #expect(try parse(body, pieces: { Int.random(in: 1...min($0, 60), using: &random) }) == expected)
    }
  }

  @Test func anyContentsComeThrough() throws {
    var random = TinyRandom(seed: 6)
    let alphabet = Array("\r\n-XyZ ab".utf8)
    for _ in 0..<500 {
      let count = Int.random(in: 0...60, using: &random)
      let contents = (0..<count).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] }
      let text = String(decoding: contents, as: UTF8.self)
      if ("\r\n" + text).contains("\r\n--XyZ") { continue }
      let body = Array("--XyZ\r\n".utf8) + Array(head("a").utf8) + contents + Array("\r\n--XyZ--".utf8)
      let parts = try parse(body, pieces: { Int.random(in: 1...min($0, 9), using: &random) })
      #expect(parts == [Part(name: "a", contents: contents, isEnded: true)], "\(text.debugDescription)")
    }
  }

  @Test func cutOrChangedBodiesNeverPassAsWhole() throws {
    let whole = body
    let end = whole.count - "\r\nan epilogue --XyZ".utf8.count
    for count in 0..<end {
      #expect(throws: MultipartError.self, "\(count)") { try parse(Array(whole[..<count])) }
    }
    var random = TinyRandom(seed: 7)
    for _ in 0..<3000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      // Whatever it makes of it, it ends, and every part it began has an end.
      if let parts = try? parse(bytes, pieces: { Int.random(in: 1...$0, using: &random) }) {
        #expect(!parts.contains { !$0.isEnded })
      }
    }
  }

  @Test func boundariesAreChecked() {
    let simple = "--b\r\n" + head("a") + "x\r\n--b--"
    for type in [
      "multipart/form-data;boundary=b", "Multipart/Form-Data ; charset=utf-8; Boundary=\"b\"",
      "multipart/form-data; boundary=b;",
    ] { #expect(refusal(simple, type: type) == nil, "\(type)") }
    let long = String(repeating: "b", count: 71)
    for type in [
      "", "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\"",
      "multipart/form-data; boundary=\"b ", "multipart/form-data; boundary=\"b \"", "multipart/mixed; boundary=b",
      "multipart/form-data; boundary=b; boundary=b", "multipart/form-data; boundary=\(long)",
      "multipart/form-data; boundary=\"b\r\n\"", "multipart/form-data; boundary=\"bé\"", "application/json",
      "multipart/form-data boundary=b",
    ] { #expect(refusal(simple, type: type) != nil, "\(type)") }
  }

  @Test func malformedPartsAreRefused() {
    let table: [(body: String, reason: String)] = [
      ("", "before its closing"), ("--XyZ", "before its closing"), ("--XyZ\r\n", "before its closing"),
      ("--XyZa\r\n", "more after it"), ("--XyZ-\r\n", "more after it"), ("--XyZ\n", "more after it"),
      ("--XyZ\r\r\n", "more after it"), ("--XyZ" + String(repeating: " ", count: 300), "more after it"),
      ("--XyZ\r\n\r\nx\r\n--XyZ--", "no valid Content-Disposition"),
      ("--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\nx", "not form-data"),
      ("--XyZ\r\nContent-Disposition: form-data\r\n\r\nx", "not form-data with a name"),
      ("--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx", "no valid Content-Disposition"),
      ("--XyZ\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\nx", "no valid Content-Disposition"),
      ("--XyZ\r\nContent-Disposition: form-data; name=a\r\n\(head("b"))x", "no valid Content-Disposition"),
      ("--XyZ\r\n folded: x\r\n\r\n", "not 'name: value'"), ("--XyZ\r\nno colon\r\n\r\n", "not 'name: value'"),
      ("--XyZ\r\nA : x\r\n\r\n", "not 'name: value'"), ("--XyZ\r\nA: x\ny\r\n\r\n", "not 'name: value'"),
      ("--XyZ\r\nA: x\ry\r\n\r\n", "carriage return"), ("--XyZ\r\nA: \0\r\n\r\n", "not 'name: value'"),
      ("--XyZ\r\nContent-Transfer-Encoding: base64\r\n\(head("a"))x", "base64"),
      ("--XyZ\r\nA: " + String(repeating: "x", count: 20000), "too long"),
      ("--XyZ\r\n" + String(repeating: "A: x\r\n", count: 40), "too long"),
      (String(repeating: "x", count: 70000), "no delimiter"),
      (String(repeating: "--XyZ\r\n\(head("a"))x\r\n", count: 70) + "--XyZ--", "more than 64 parts"),
    ]
    for (body, reason) in table {
      let found = refusal(body) ?? "no error"
      #expect(found.contains(reason), "\(body.prefix(60).debugDescription): \(found)")
    }
  }
}
