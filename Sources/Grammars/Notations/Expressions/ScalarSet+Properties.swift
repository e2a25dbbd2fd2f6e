extension ScalarSet {
  /// The digits of `\d`.
  static let digits = ScalarSet("0"..."9")
  /// The characters of `\w`.
  static let wordCharacters = ScalarSet([0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
  /// The white space of `\s` in ECMA-262.
  static let whiteSpace = ScalarSet(
    [
      0x09...0x0D, 0x20...0x20, 0xA0...0xA0, 0x1680...0x1680, 0x2000...0x200A, 0x2028...0x2029, 0x202F...0x202F,
      0x205F...0x205F, 0x3000...0x3000, 0xFEFF...0xFEFF,
    ])
  /// What ends a line in ECMA-262, which the dot does not match.
  static let lineEnds = ScalarSet([0x0A...0x0A, 0x0D...0x0D, 0x2028...0x2029])

  /// The scalars of a Unicode property as `\p{…}` names it: a general category, by its short or long name, or one of a few
  /// binary properties. `nil` for another name.
  static func property(_ name: String) -> ScalarSet? {
    var name = name
    for prefix in ["General_Category=", "gc="] where name.hasPrefix(prefix) { name.removeFirst(prefix.count) }
    switch name {
    case "Any": return .all
    case "ASCII": return ScalarSet([0...0x7F])
    case "Assigned": return property("Cn")?.inverted
    case "Alphabetic", "Alpha": return alphabetic
    case "Uppercase", "Upper": return uppercase
    case "Lowercase", "Lower": return lowercase
    case "White_Space", "space": return space
    case "Emoji": return emoji
    case "ID_Start", "IDS": return idStart
    case "ID_Continue", "IDC": return idContinue
    default: break
    }
    let short = longNames[name] ?? name
    if short == "LC" { return ScalarSet(["Lu", "Ll", "Lt"].flatMap { categories[$0] ?? [] }) }
    let ranges = categories.filter { $0.key == short || (short.count == 1 && $0.key.hasPrefix(short)) }
    return ranges.isEmpty ? nil : ScalarSet(ranges.flatMap(\.value))
  }

  /// The set with every scalar that differs from one of its scalars only in case, as Unicode's simple case folding has it.
  var ignoringCase: ScalarSet {
    if let single { return ScalarSet((Self.cases[single] ?? [single]).map { $0...$0 }) }
    return ScalarSet(ranges + Self.cases.filter { contains($0.key) }.values.joined().map { $0...$0 })
  }

  /// For each scalar that others differ from only in case: these and itself.
  private static let cases: [UInt32: [UInt32]] = {
    var groups: [UInt32: [UInt32]] = [:]
    for range in ScalarSet.all.ranges {
      // The dotless i folds to itself.
      for value in range where value != 0x131 {
        guard let scalar = Unicode.Scalar(value), scalar.properties.changesWhenCaseMapped else { continue }
        func simple(_ text: String) -> Unicode.Scalar? {
          text.unicodeScalars.count == 1 ? text.unicodeScalars.first : nil
        }
        let upper = simple(scalar.properties.uppercaseMapping) ?? scalar
        groups[(simple(upper.properties.lowercaseMapping) ?? upper).value, default: []].append(value)
      }
    }
    var cases: [UInt32: [UInt32]] = [:]
    for group in groups.values where group.count > 1 {
      for value in group { cases[value] = group }
    }
    return cases
  }()

  // Each is a scan of all scalars, which is done once.
  private static let alphabetic = scan { $0.isAlphabetic }
  private static let uppercase = scan { $0.isUppercase }
  private static let lowercase = scan { $0.isLowercase }
  private static let space = scan { $0.isWhitespace }
  private static let emoji = scan { $0.isEmoji }
  private static let idStart = scan { $0.isIDStart }
  private static let idContinue = scan { $0.isIDContinue }

  private static func scan(_ isMember: (Unicode.Scalar.Properties) -> Bool) -> ScalarSet {
    var ranges: [ClosedRange<UInt32>] = []
    for range in ScalarSet.all.ranges {
      for value in range where isMember(Unicode.Scalar(value)!.properties) {
        if let last = ranges.last, last.upperBound + 1 == value {
          ranges[ranges.count - 1] = last.lowerBound...value
        } else {
          ranges.append(value...value)
        }
      }
    }
    return ScalarSet(ranges)
  }

  /// The ranges of each general category, by its short name.
  private static let categories: [String: [ClosedRange<UInt32>]] = {
    var ranges: [String: [ClosedRange<UInt32>]] = ["Cs": []]
    var (current, start): (Unicode.GeneralCategory, UInt32) = (.control, 0)
    func close(_ end: UInt32) { ranges[shortName(current), default: []].append(start...end) }
    for value in ScalarSet.all.ranges.joined() {
      let category = Unicode.Scalar(value)!.properties.generalCategory
      if category != current || value == 0xE000 {
        close(value == 0xE000 ? 0xD7FF : value - 1)
        (current, start) = (category, value)
      }
    }
    close(0x10FFFF)
    return ranges
  }()

  private static func shortName(_ category: Unicode.GeneralCategory) -> String {
    switch category {
    case .uppercaseLetter: "Lu"
    case .lowercaseLetter: "Ll"
    case .titlecaseLetter: "Lt"
    case .modifierLetter: "Lm"
    case .otherLetter: "Lo"
    case .nonspacingMark: "Mn"
    case .spacingMark: "Mc"
    case .enclosingMark: "Me"
    case .decimalNumber: "Nd"
    case .letterNumber: "Nl"
    case .otherNumber: "No"
    case .connectorPunctuation: "Pc"
    case .dashPunctuation: "Pd"
    case .openPunctuation: "Ps"
    case .closePunctuation: "Pe"
    case .initialPunctuation: "Pi"
    case .finalPunctuation: "Pf"
    case .otherPunctuation: "Po"
    case .mathSymbol: "Sm"
    case .currencySymbol: "Sc"
    case .modifierSymbol: "Sk"
    case .otherSymbol: "So"
    case .spaceSeparator: "Zs"
    case .lineSeparator: "Zl"
    case .paragraphSeparator: "Zp"
    case .control: "Cc"
    case .format: "Cf"
    case .surrogate: "Cs"
    case .privateUse: "Co"
    case .unassigned: "Cn"
    @unknown default: "Cn"
    }
  }

  private static let longNames = [
    "Letter": "L", "Cased_Letter": "LC", "Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll", "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm", "Other_Letter": "Lo", "Mark": "M", "Combining_Mark": "M", "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc", "Enclosing_Mark": "Me", "Number": "N", "Decimal_Number": "Nd", "digit": "Nd",
    "Letter_Number": "Nl", "Other_Number": "No", "Punctuation": "P", "punct": "P", "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd", "Open_Punctuation": "Ps", "Close_Punctuation": "Pe", "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf", "Other_Punctuation": "Po", "Symbol": "S", "Math_Symbol": "Sm", "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk", "Other_Symbol": "So", "Separator": "Z", "Space_Separator": "Zs", "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp", "Other": "C", "Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Private_Use": "Co",
    "Unassigned": "Cn", "Surrogate": "Cs",
  ]
}
