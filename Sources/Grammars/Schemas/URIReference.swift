/// References to URIs (RFC 3986).
enum URIReference {
  /// The URI that a reference means, without its fragment; `base` may be empty.
  static func resolve(_ reference: String, against base: String) -> String {
    let (reference, base) = (split(withoutFragment(reference)), split(base))
    if !reference.scheme.isEmpty { return reference.scheme + reference.authority + normalized(reference.path) }
    if !reference.authority.isEmpty { return base.scheme + reference.authority + normalized(reference.path) }
    if reference.path.isEmpty { return base.scheme + base.authority + base.path }
    if reference.path.hasPrefix("/") || base.path.isEmpty {
      let separator = base.authority.isEmpty || reference.path.hasPrefix("/") ? "" : "/"
      return base.scheme + base.authority + separator + normalized(reference.path)
    }
    let folder = base.path.lastIndex(of: "/").map { base.path[...$0] } ?? ""
    return base.scheme + base.authority + normalized(folder + reference.path)
  }

  /// The text with its percent escapes decoded; `nil` if they are malformed.
  static func percentDecoded(_ text: String) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "%") {
        guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
          return nil
        }
        rest = rest.dropFirst(2)
        bytes.append(value)
      } else {
        bytes.append(byte)
      }
    }
    return String(validating: bytes, as: UTF8.self)
  }

  private static func withoutFragment(_ uri: String) -> String { String(uri.prefix { $0 != "#" }) }

  /// The scheme with its colon, the authority with its slashes, and the path with the query.
  private static func split(_ uri: String) -> (scheme: String, authority: String, path: String) {
    var rest = uri[...]
    var (scheme, authority) = ("", "")
    if let colon = rest.firstIndex(where: { ":/?#".contains($0) }), rest[colon] == ":", colon != rest.startIndex {
      scheme = String(rest[...colon])
      rest = rest[rest.index(after: colon)...]
    }
    if rest.hasPrefix("//") {
      let end = rest.dropFirst(2).firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
      authority = String(rest[..<end])
      rest = rest[end...]
    }
    return (scheme, authority, String(rest))
  }

  /// Without "." and ".." segments.
  private static func normalized(_ path: some StringProtocol) -> String {
    guard path.contains("./") || path.hasSuffix("/..") || path.hasSuffix("/.") else { return String(path) }
    var segments: [Substring] = []
    let parts = String(path).split(separator: "/", omittingEmptySubsequences: false)
    for (position, part) in parts.enumerated() {
      let isLast = position == parts.count - 1
      switch part {
      case ".": if isLast { segments.append("") }
      case "..":
        if segments.count > 1 || (segments.first.map { !$0.isEmpty } ?? false) { segments.removeLast() }
        if isLast { segments.append("") }
      default: segments.append(part)
      }
    }
    return segments.joined(separator: "/")
  }
}
