/// An event of a stream with a gap for its text, since the rest is the same for every piece of a choice.
struct EventTemplate {
  private let before, after: [UInt8]

  /// - Parameter event: the whole event with a given text in it, once
  init(_ event: (String) -> [UInt8]) {
    let (one, other) = (event("0"), event("1"))
    let place = zip(one, other).prefix { $0 == $1 }.count
    before = Array(one.prefix(place))
    after = Array(one.dropFirst(place + 1))
  }

  /// Appends the event with bytes in the gap, which `write` appends.
  func append(to bytes: inout [UInt8], text write: (inout [UInt8]) -> Void) {
    bytes += before
    write(&bytes)
    bytes += after
  }
}
