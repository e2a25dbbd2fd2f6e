internal import Glibc

/// Why a multipart body is not valid.
struct MultipartError: Error, Equatable {
  let reason: String

  init(_ reason: String) { self.reason = reason }
}

/// The head of a part of multipart/form-data (RFC 7578).
struct MultipartPart: Equatable, Sendable {
  /// The field's name.
  var name: String
  /// As the client sent it. It may contain a path or any other text.
  var filename: String?
  var headers: HTTPHeaders

  /// The file name without the path that some clients put before it.
  var lastPathComponent: String? {
    filename.map { String($0.split { $0 == "/" || $0 == "\\" }.last ?? "") }
  }

  init(headers: HTTPHeaders) throws(MultipartError) {
    self.headers = headers
    guard headers.values("content-disposition").count == 1,
      let disposition = headers["content-disposition"].flatMap(HeaderParameters.init)
    else { throw MultipartError("a part has no valid Content-Disposition") }
    guard disposition.value == "form-data", let name = disposition.parameters["name"] else {
      throw MultipartError("a part's Content-Disposition is not form-data with a name")
    }
    self.name = name
    filename = disposition.parameters["filename"]
    let encoding = headers["content-transfer-encoding"]?.lowercased() ?? "binary"
    guard ["binary", "8bit", "7bit"].contains(encoding) else {
      throw MultipartError("the part '\(name)' has the Content-Transfer-Encoding \(encoding), which is not supported")
    }
  }
}

/// Parses a multipart/form-data body (RFC 7578; RFC 2046, section 5.1) as it is received, in chunks of any size. It buffers
/// no more than one part's header or one delimiter.
struct MultipartParser {
  enum Event {
    /// A part's head was received.
    case began(MultipartPart)
    /// Some bytes of the part's contents, valid during the call only; never empty.
    case bytes(UnsafeRawBufferPointer)
    /// The part is complete.
    case ended
  }

  private enum State { case preamble, delimiterEnd, headers, contents, epilogue }

  static let maxHeaderBytes = 16 << 10
  static let maxHeaderCount = 32
  private static let maxPreambleBytes = 64 << 10
  private static let maxPadding = 256

  private let maxParts: Int
  /// CRLF, two dashes, the boundary.
  private let delimiter: [UInt8]
  private var state = State.preamble
  /// Bytes that were not parsed yet. It begins with a CRLF, which the first delimiter may lack.
  private var pending: [UInt8] = [0x0D, 0x0A]
  private var headers = HTTPHeaders()
  private var headerBytes = 0
  private var preambleBytes = 0
  private var partCount = 0

  /// - Parameter contentType: the request's header field
  /// - Throws: `MultipartError` if it is not multipart/form-data with a valid boundary
  init(contentType: String, maxParts: Int = 64) throws(MultipartError) {
    guard let type = HeaderParameters(contentType), type.value == "multipart/form-data" else {
      throw MultipartError("the request's Content-Type must be multipart/form-data")
    }
    guard let boundary = type.parameters["boundary"], (1...70).contains(boundary.utf8.count), !boundary.hasSuffix(" "),
      boundary.utf8.allSatisfy(Self.isBoundaryByte)
    else { throw MultipartError("the request's Content-Type has no valid boundary") }
    delimiter = Array("\r\n--\(boundary)".utf8)
    self.maxParts = maxParts
  }

  /// RFC 2046's bchars.
  private static func isBoundaryByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: "'()+_,-./:=? ".utf8.contains(byte)
    }
  }

  /// Parses further bytes. After an error the parser cannot be used any more.
  /// - Parameter handler: called with the events, in order
  mutating func feed(_ bytes: UnsafeRawBufferPointer, _ handler: (Event) throws -> Void) throws {
    if state == .epilogue { return }
    pending.append(contentsOf: bytes)
    var position = 0
    while try step(&position, handler) {}
    pending.removeFirst(position)
  }

  /// Checks that the body is complete. Called at its end.
  /// - Throws: `MultipartError` if the closing delimiter is missing
  func finish() throws(MultipartError) {
    guard state == .epilogue else { throw MultipartError("the body ends before its closing delimiter") }
  }

  /// - Returns: whether the pending bytes may give another event
  private mutating func step(_ position: inout Int, _ handler: (Event) throws -> Void) throws -> Bool {
    switch state {
    case .preamble, .contents: return try takeContents(&position, handler)
    case .delimiterEnd: return try endDelimiter(&position)
    case .headers: return try takeHeader(&position, handler)
    case .epilogue:
      position = pending.count
      return false
    }
  }

  private mutating func takeContents(
    _ position: inout Int, _ handler: (Event) throws -> Void
  ) throws -> Bool {
    let (end, isWhole) = findDelimiter(from: position)
    if state == .preamble {
      preambleBytes += end - position
      guard preambleBytes <= Self.maxPreambleBytes else {
        throw MultipartError("there is no delimiter in the body's first \(Self.maxPreambleBytes) bytes")
      }
    } else if end > position {
      try pending.withUnsafeBytes { try handler(.bytes(UnsafeRawBufferPointer(rebasing: $0[position..<end]))) }
    }
    position = end
    guard isWhole else { return false }
    position += delimiter.count
    if state == .contents { try handler(.ended) }
    state = .delimiterEnd
    return true
  }

  /// The index of the next delimiter, or of an incomplete one at the end; the end if there is none.
  private func findDelimiter(from start: Int) -> (index: Int, isWhole: Bool) {
    pending.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return (start, false) }
      var index = start
      while index < bytes.count, let found = memchr(base + index, 0x0D, bytes.count - index) {
        index = UnsafeRawPointer(found) - base
        let count = min(delimiter.count, bytes.count - index)
        if memcmp(base + index, delimiter, count) == 0 { return (index, count == delimiter.count) }
        index += 1
      }
      return (bytes.count, false)
    }
  }

  /// Two dashes after the last delimiter; else blanks and CRLF.
  private mutating func endDelimiter(_ position: inout Int) throws -> Bool {
    let rest = pending[position...]
    if rest.first == UInt8(ascii: "-") {
      guard rest.count >= 2 else { return false }
      guard rest[position + 1] == UInt8(ascii: "-") else { throw MultipartError("a delimiter has more after it") }
      state = .epilogue
      return true
    }
    let line = rest.drop { $0 == 0x20 || $0 == 0x09 }
    guard line.startIndex - position <= Self.maxPadding else { throw MultipartError("a delimiter has more after it") }
    guard let first = line.first else { return false }
    guard first == 0x0D, line.count < 2 || line[line.startIndex + 1] == 0x0A else {
      throw MultipartError("a delimiter has more after it")
    }
    guard line.count >= 2 else { return false }
    position = line.startIndex + 2
    partCount += 1
    guard partCount <= maxParts else { throw MultipartError("there are more than \(maxParts) parts") }
    headers = HTTPHeaders()
    headerBytes = 0
    state = .headers
    return true
  }

  private mutating func takeHeader(_ position: inout Int, _ handler: (Event) throws -> Void) throws -> Bool {
    let rest = pending[position...]
    guard let end = rest.firstIndex(of: 0x0D), end + 1 < pending.count else {
      guard headerBytes + rest.count <= Self.maxHeaderBytes else { throw tooManyHeaders }
      return false
    }
    guard pending[end + 1] == 0x0A else { throw MultipartError("a part's header has a carriage return of its own") }
    let line = rest[..<end]
    headerBytes += line.count + 2
    guard headerBytes <= Self.maxHeaderBytes else { throw tooManyHeaders }
    position = end + 2
    if line.isEmpty {
      state = .contents
      try handler(.began(try MultipartPart(headers: headers)))
    } else {
      try add(line)
    }
    return true
  }

  private var tooManyHeaders: MultipartError { MultipartError("a part's header is too long") }

  private mutating func add(_ line: ArraySlice<UInt8>) throws(MultipartError) {
    guard headers.fields.count < Self.maxHeaderCount else { throw tooManyHeaders }
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
      line[..<colon].allSatisfy(isToken), !line.contains(0), !line.contains(0x0A),
      let value = String(validating: line[(colon + 1)...], as: UTF8.self)
    else { throw MultipartError("a line of a part's header is not 'name: value'") }
    headers.add(String(decoding: line[..<colon], as: UTF8.self), trimmedOptionalSpace(value))
  }
}
