/// The texts of the formats that JSON Schema names.
enum StringFormat {
  /// The texts of a format; `nil` for a format that is not known.
  static func expression(_ name: String) -> TextExpression? { expressions[name] }

  private static let expressions: [String: TextExpression] = [
    "date": date,
    "time": time,
    "date-time": .joined([date, .anyScalar(of: "Tt"), time]),
    "duration": duration,
    "uuid": uuid(),
    "email": email,
    "hostname": hostname,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "uri": identifier(),
    "uri-reference": identifier(isReference: true),
    "iri": identifier(isInternational: true),
    "iri-reference": identifier(isInternational: true, isReference: true),
    "uri-template": template,
    "json-pointer": pattern(pointer),
    "relative-json-pointer": pattern("(0|[1-9][0-9]*)(#|\(pointer))"),
    // OpenAPI's and Pydantic's.
    "byte": base64("+/"),
    "base64": base64("+/"),
    "base64url": base64("_-"),
    "multi-host-uri": identifier(isMultiHost: true),
    "uuid1": uuid(version: 1),
    "uuid3": uuid(version: 3),
    "uuid4": uuid(version: 4),
    "uuid5": uuid(version: 5),
    "uuid6": uuid(version: 6),
    "uuid7": uuid(version: 7),
    "uuid8": uuid(version: 8),
    // These say how a text is shown or what it is for; any text is one.
    "password": .anything,
    "binary": .anything,
    "path": .anything,
    "file-path": .anything,
    "directory-path": .anything,
  ]

  private static func pattern(_ pattern: String) -> TextExpression {
    do { return try RegularExpressionParser.wholeMatch(pattern) } catch { preconditionFailure("\(error)") }
  }

  /// RFC 9562, section 4: of one version, or of any.
  private static func uuid(version: Int? = nil) -> TextExpression {
    let end = version.map { "\($0)[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}" } ?? "[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}"
    return pattern("[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-\(end)-[0-9A-Fa-f]{12}")
  }

  /// RFC 4648, sections 4 and 5, with padding.
  /// - Parameter last: the digits for 62 and 63
  private static func base64(_ last: String) -> TextExpression {
    let digit = "[A-Za-z0-9\(last)]"
    return pattern("(\(digit){4})*(\(digit){2}==|\(digit){3}=)?")
  }

  /// RFC 6901, section 3.
  private static let pointer = "(/([^~/]|~[01])*)*"

  /// RFC 3339 `full-date`, with the days that each month has, and 29 February in leap years.
  private static let date: TextExpression = {
    let leap = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29"
    let month = "(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    return pattern("[0-9]{4}-(\(month)|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|\(leap)")
  }()

  /// RFC 3339 `full-time`. A leap second is written only as the last of a day in UTC.
  private static let time: TextExpression = {
    let end = "(\\.[0-9]+)?"
    let plain = pattern("([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\(end)([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])")
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    func either(_ count: Int, _ form: (Int) -> String) -> TextExpression {
      .either((0..<count).map { pattern(form($0)) })
    }
    let any = "[0-9]{2}"
    // 23:59:60 in UTC at an offset: of the hours and of the minutes, what is written first tells the offset.
    let ahead = either(24) { "\(two(($0 + 23) % 24)):59:60\(end)\\+\(two($0)):00" }
    let aheadHours = either(24) { "\(two($0)):\(any):60\(end)\\+\(two($0)):\(any)" }
    let aheadMinutes = either(59) { "\(any):\(two($0)):60\(end)\\+\(any):\(two($0 + 1))" }
    let behindHours = either(24) { "\(two(23 - $0)):\(any):60\(end)-\(two($0)):\(any)" }
    let behindMinutes = either(60) { "\(any):\(two(59 - $0)):60\(end)-\(any):\(two($0))" }
    return .either([
      plain, pattern("23:59:60\(end)[Zz]"), ahead, .all([aheadHours, aheadMinutes]),
      .all([behindHours, behindMinutes]),
    ])
  }()

  /// RFC 5321, section 4.1.2.
  private static let email: TextExpression = {
    let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
    let quoted = "\"([ !#-\\[\\]-~]|\\\\[ -~])*\""
    let literal = TextExpression.joined([
      .literal("["), .either([ipv4, .joined([.literal("IPv6:"), ipv6])]), .literal("]"),
    ])
    return .joined([pattern("\(atom)(\\.\(atom))*|\(quoted)"), .literal("@"), .either([hostname, literal])])
  }()

  /// RFC 3339, appendix A.
  private static let duration: TextExpression = {
    let time = "T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S)"
    let date = "([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)"
    return pattern("P(\(date)(\(time))?|\(time)|[0-9]+W)")
  }()

  /// RFC 1123: labels of 1 to 63 letters, digits and inner hyphens, together at most 253 characters. A label with hyphens at
  /// its third and fourth position encodes other characters; whether it does so validly is not regular, so it is not written.
  private static let hostname: TextExpression = {
    // Its characters one by one up to the fourth: an intersection with what has no such hyphens would need many more states.
    let (end, inner) = ("[A-Za-z0-9]", "[A-Za-z0-9-]")
    let label = "\(end)(\(end)|\(inner)(\(end)(\(inner){0,59}\(end))?|-\(end)(\(inner){0,58}\(end))?))?"
    return .all([pattern("\(label)(\\.\(label))*"), pattern("[A-Za-z0-9.-]{1,253}")])
  }()

  private static let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
  private static let ipv4 = pattern("\(byte)(\\.\(byte)){3}")

  /// RFC 4291, section 2.2, without zones.
  private static let ipv6: TextExpression = {
    let group = "[0-9A-Fa-f]{1,4}"
    let last = "(\(group):\(group)|\(byte)(\\.\(byte)){3})"
    var forms = ["(\(group):){6}\(last)"]
    // "::" stands for at least one group of zeros; `after` groups of 16 bits follow it, of which the last two may be IPv4.
    for after in 0...7 {
      let most = 7 - after
      let before = most == 0 ? "" : "(\(group)(:\(group)){0,\(most - 1)})?"
      let rest = after == 0 ? "" : after == 1 ? group : "(\(group):){\(after - 2)}\(last)"
      forms.append("\(before)::\(rest)")
    }
    return pattern(forms.joined(separator: "|"))
  }()

  private static let encoded = "%[0-9A-Fa-f]{2}"
  /// The characters beyond ASCII that RFC 3987 allows, as ranges of a character class.
  private static let international =
    "\\u{A0}-\\u{D7FF}\\u{F900}-\\u{FDCF}\\u{FDF0}-\\u{FFEF}"
    + "123456789ABCD".map { "\\u{\($0)0000}-\\u{\($0)FFFD}" }.joined() + "\\u{E1000}-\\u{EFFFD}"
  /// Those that it allows in queries alone.
  private static let privateUse = "\\u{E000}-\\u{F8FF}\\u{F0000}-\\u{FFFFD}\\u{100000}-\\u{10FFFD}"

  /// RFC 3986, section 3: a URI, or a reference, which may be relative; RFC 3987 with characters beyond ASCII.
  /// - Parameter isMultiHost: whether there are several hosts, as in addresses of databases
  private static func identifier(
    isInternational: Bool = false, isReference: Bool = false, isMultiHost: Bool = false
  ) -> TextExpression {
    let unreserved = "A-Za-z0-9._~\\-" + (isInternational ? international : "")
    let delimiters = "!$&'()*+,;="
    let character = "([\(unreserved)\(delimiters):@]|\(encoded))"
    let user = "([\(unreserved)\(delimiters):]|\(encoded))*"
    let name = "([\(unreserved)\(delimiters)]|\(encoded))*"
    let future = "[Vv][0-9A-Fa-f]+\\.[A-Za-z0-9._~\\-\(delimiters):]+"
    let path = "(/\(character)*)*"
    let host = TextExpression.either([
      pattern(name), .joined([.literal("["), .either([ipv6, pattern(future)]), .literal("]")]),
    ])
    let authority = TextExpression.joined([pattern("(\(user)@)?"), host, pattern("(:[0-9]*)?")])
    let query = "(\\?(\(character)|[/?\(isInternational ? privateUse : "")])*)?"
    let end = pattern("\(query)(#(\(character)|[/?])*)?")
    let scheme = pattern("[A-Za-z][A-Za-z0-9+.-]*:")
    if isMultiHost {
      let more = TextExpression.joined([.literal(","), authority]).repeated(0)
      return .joined([scheme, .literal("//"), authority, more, pattern(path), end])
    }
    let rooted: [TextExpression] = [
      .joined([.literal("//"), authority, pattern(path)]), pattern("/(\(character)+\(path))?"),
    ]
    let absolute = TextExpression.joined([scheme, .either(rooted + [pattern("\(character)+\(path)"), .empty]), end])
    if !isReference { return absolute }
    // A colon in the first segment would end a scheme.
    let segment = "([\(unreserved)\(delimiters)@]|\(encoded))+"
    return .either([absolute, .joined([.either(rooted + [pattern("\(segment)\(path)"), .empty]), end])])
  }

  /// RFC 6570, section 2, with the operators that it gives a meaning.
  private static let template: TextExpression = {
    let literal = "([!#$&(-;=?-\\[\\]_a-z~\(international)\(privateUse)]|\(encoded))"
    let character = "([A-Za-z0-9_]|\(encoded))"
    let variable = "\(character)(\\.?\(character))*(:[1-9][0-9]{0,3}|\\*)?"
    return pattern("(\(literal)|\\{[+#./;?&]?\(variable)(,\(variable))*\\})*")
  }()
}
