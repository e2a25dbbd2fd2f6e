/// Decodes the chunked transfer coding (RFC 9112, section 7.1) as it is received, without buffering.
///
/// Sizes are checked for overflow and lines must end with CRLF. Chunk extensions and trailer fields are limited and ignored.
struct ChunkedDecoder: Equatable {
  enum Event: Equatable {
    /// All input was used, and the body is not complete.
    case needsInput
    /// Body bytes at these offsets of the input.
    case data(Range<Int>)
    /// The body is complete. The rest of the input belongs to the next request.
    case end
  }

  private enum State {
    case size, extensions, sizeLineFeed
    case data, dataReturn, dataLineFeed
    case trailerStart, trailer, trailerLineFeed, endLineFeed, ended
  }

  static let maxExtensionBytes = 1024
  static let maxTrailerBytes = 8192

  private var state = State.size
  private var remaining = 0
  private var sizeDigits = 0
  private var extensionBytes = 0
  private var trailerBytes = 0

  /// Decodes the next event in `input`.
  /// - Returns: the event, and how many bytes were used for it. The rest has to be given again until `needsInput`.
  mutating func next(_ input: UnsafeRawBufferPointer) throws(HTTPProtocolError) -> (event: Event, used: Int) {
    var position = 0
    while state != .ended {
      guard position < input.count else { return (.needsInput, position) }
      if state == .data {
        let count = min(remaining, input.count - position)
        remaining -= count
        if remaining == 0 { state = .dataReturn }
        return (.data(position..<position + count), position + count)
      }
      try step(input[position])
      position += 1
    }
    return (.end, position)
  }

  private mutating func step(_ byte: UInt8) throws(HTTPProtocolError) {
    let isReturn = byte == UInt8(ascii: "\r")
    switch state {
    case .size: try sizeStep(byte)
    case .extensions:
      extensionBytes += 1
      guard extensionBytes <= Self.maxExtensionBytes else { throw HTTPProtocolError(400, "chunk extension too long") }
      if isReturn { state = .sizeLineFeed } else { try checkText(byte) }
    case .sizeLineFeed:
      try checkLineFeed(byte)
      state = remaining == 0 ? .trailerStart : .data
      sizeDigits = 0
      extensionBytes = 0
    case .dataReturn:
      guard isReturn else { throw HTTPProtocolError(400, "chunk data is longer than its size") }
      state = .dataLineFeed
    case .dataLineFeed:
      try checkLineFeed(byte)
      state = .size
    case .trailerStart, .trailer:
      trailerBytes += 1
      guard trailerBytes <= Self.maxTrailerBytes else { throw HTTPProtocolError(431, "trailer section too long") }
      if isReturn {
        state = state == .trailerStart ? .endLineFeed : .trailerLineFeed
      } else {
        try checkText(byte)
        state = .trailer
      }
    case .trailerLineFeed:
      try checkLineFeed(byte)
      state = .trailerStart
    case .endLineFeed:
      try checkLineFeed(byte)
      state = .ended
    case .data, .ended: break
    }
  }

  private mutating func sizeStep(_ byte: UInt8) throws(HTTPProtocolError) {
    if let digit = hexValue(byte) {
      sizeDigits += 1
      // 15 digits are less than 2^60, so there is no overflow.
      guard sizeDigits <= 15 else { throw HTTPProtocolError(400, "chunk size too large") }
      remaining = remaining << 4 | Int(digit)
    } else {
      guard sizeDigits > 0 else { throw HTTPProtocolError(400, "malformed chunk size") }
      switch byte {
      case UInt8(ascii: "\r"): state = .sizeLineFeed
      case UInt8(ascii: ";"): state = .extensions
      default: throw HTTPProtocolError(400, "malformed chunk size")
      }
    }
  }

  private func checkText(_ byte: UInt8) throws(HTTPProtocolError) {
    guard byte == 0x09 || (byte >= 0x20 && byte != 0x7F) else {
      throw HTTPProtocolError(400, "control character in the chunked body's framing")
    }
  }

  private func checkLineFeed(_ byte: UInt8) throws(HTTPProtocolError) {
    guard byte == UInt8(ascii: "\n") else {
      throw HTTPProtocolError(400, "carriage return without line feed in the chunked body")
    }
  }
}
