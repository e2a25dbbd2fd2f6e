/// An event of a stream without its text. The rest is the same in all events of a choice, so it is encoded once.
struct EventTemplate {
  private let before, after: [UInt8]

  /// - Parameter event: makes the whole event with a text, which it contains once
  init(_ event: (String) -> [UInt8]) {
    let (one, other) = (event("0"), event("1"))
    let textIndex = zip(one, other).prefix { $0 == $1 }.count
    before = Array(one.prefix(textIndex))
    after = Array(one.dropFirst(textIndex + 1))
  }

  /// Appends the event.
  /// - Parameter write: appends the text as JSON has it
  func append(to bytes: inout [UInt8], text write: (inout [UInt8]) -> Void) {
    bytes += before
    write(&bytes)
    bytes += after
  }
}
