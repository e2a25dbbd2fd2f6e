import Model

/// The adapters that a request names: `name[@version][:scale]`, several separated by commas.
struct AdapterSelector: Equatable {
  /// One adapter with its scale.
  struct Term: Equatable {
    var name: String
    var version: Int?
    var scale: Float?

    /// Whether both name the same version with the same scale.
    func isSame(as other: Term) -> Bool {
      name == other.name && version == other.version && (scale ?? 1) == (other.scale ?? 1)
    }
  }

  /// Empty for the base without adapters.
  var terms: [Term]

  static let maximumTerms = 8
  /// Names that other servers give the field `adapter`. They are refused, because otherwise the base would answer
  /// instead of the adapter.
  static let otherNames: Set<String> = [
    "lora", "loras", "lora_path", "lora_name", "lora_id", "lora_int_id", "lora_request", "lora_adapter",
    "lora_adapters",
    "adapter_id", "adapter_name", "adapter_source",
  ]
  /// The maximum bytes of a selector.
  static let maximumBytes = 4096
  /// The metrics' label of all requests with several adapters: a label for each combination would be too many. No adapter
  /// can have this name.
  static let sumLabel = "(several)"

  /// Parses a selector.
  /// - Parameters:
  ///   - text: not percent-encoded
  ///   - param: the field that errors name
  init(_ text: String, param: String) throws(APIError) {
    terms = []
    if text.isEmpty || text == "base" { return }
    // Checked before it is split, since it can have any length.
    let shown = text.excerpt(200)
    guard text.utf8.count(where: { $0 == UInt8(ascii: ",") }) < Self.maximumTerms else {
      throw .invalid(
        "'\(shown)' names more than \(Self.maximumTerms) adapters", param: param, code: "invalid_value")
    }
    guard text.utf8.count <= Self.maximumBytes else {
      throw .invalid(
        "'\(shown)' has \(text.utf8.count) bytes, more than \(Self.maximumBytes)", param: param, code: "invalid_value")
    }
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let term = Self.term(part)
      guard !term.name.isEmpty, term.name != "base" else {
        throw .invalid(
          "'\(shown)' does not name adapters: a term is empty, or the base", param: param, code: "invalid_value")
      }
      guard !terms.contains(where: { $0.isSame(as: term) }) else {
        throw .invalid("the adapter '\(part.excerpt(200))' is named twice", param: param, code: "invalid_value")
      }
      terms.append(term)
    }
  }

  /// A ":x" at the end is a scale if x is a finite decimal number; then "@n" at the end is a version if n is a positive
  /// integer.
  private static func term(_ text: Substring) -> Term {
    var name = text
    var scale: Float?
    if let colon = name.lastIndex(of: ":"), let value = decimal(name[name.index(after: colon)...]) {
      scale = value
      name = name[..<colon]
    }
    var version: Int?
    if let at = name.lastIndex(of: "@"), let value = Int(name[name.index(after: at)...]), value > 0,
      name[name.index(after: at)...].utf8.allSatisfy({ (0x30...0x39).contains($0) })
    {
      version = value
      name = name[..<at]
    }
    return Term(name: String(name), version: version, scale: scale)
  }

  /// A number of digits with a sign, a point and an exponent; not "inf", "nan" or hexadecimal.
  private static func decimal(_ text: Substring) -> Float? {
    guard text.utf8.contains(where: { (0x30...0x39).contains($0) }),
      text.utf8.allSatisfy({ (0x30...0x39).contains($0) || "+-.eE".utf8.contains($0) }), let value = Float(text),
      value.isFinite
    else { return nil }
    return value
  }

  /// The metrics' label: the adapter's name without version and scale.
  var label: String { terms.isEmpty ? "base" : terms.count == 1 ? terms[0].name : Self.sumLabel }

  /// Whether both name the same adapters with the same scales, in any order.
  func names(sameAs other: AdapterSelector) -> Bool {
    terms.count == other.terms.count
      && terms.allSatisfy { term in
        other.terms.contains { $0.isSame(as: term) }
      }
  }

  /// The adapters without their scales.
  var references: [AdapterReference] { terms.map { AdapterReference(name: $0.name, version: $0.version) } }
}
