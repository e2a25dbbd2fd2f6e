import Model

/// The adapters that a request names, by the grammar `name[@version][:scale]`, several joined by commas.
struct AdapterSelector: Equatable {
  struct Term: Equatable {
    var name: String
    var version: Int?
    var scale: Float?

    func isSame(as other: Term) -> Bool {
      name == other.name && version == other.version && (scale ?? 1) == (other.scale ?? 1)
    }
  }

  /// None for the bare base.
  var terms: [Term]

  static let maximumTerms = 8
  /// How other servers call the field that is 'adapter' here: refused, lest the base answers.
  static let otherNames: Set<String> = [
    "lora", "loras", "lora_path", "lora_name", "lora_id", "lora_int_id", "lora_request", "lora_adapter",
    "lora_adapters",
    "adapter_id", "adapter_name", "adapter_source",
  ]
  /// Of all terms together.
  static let maximumBytes = 4096
  /// What the metrics call a sum of several adapters: each combination apart would be too many labels. No adapter can be
  /// called so.
  static let sumLabel = "(several)"

  /// - Parameters:
  ///   - text: percent-decoded
  ///   - param: the field that errors name
  init(_ text: String, param: String) throws(APIError) {
    terms = []
    if text.isEmpty || text == "base" { return }
    // Measured and counted before anything is made of them, since there is no bound on what is sent.
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

  /// A trailing ":x" is a scale if x is a finite decimal, then a trailing "@n" a version if n is a positive integer.
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

  /// Digits with a sign, a point and an exponent, as JSON and Python write them; no "inf", "nan" or hexadecimal.
  private static func decimal(_ text: Substring) -> Float? {
    guard text.utf8.contains(where: { (0x30...0x39).contains($0) }),
      text.utf8.allSatisfy({ (0x30...0x39).contains($0) || "+-.eE".utf8.contains($0) }), let value = Float(text),
      value.isFinite
    else { return nil }
    return value
  }

  /// For metrics: the adapter's name without its scale.
  var label: String { terms.isEmpty ? "base" : terms.count == 1 ? terms[0].name : Self.sumLabel }

  /// The same adapters with the same scales, in whatever order.
  func names(sameAs other: AdapterSelector) -> Bool {
    terms.count == other.terms.count
      && terms.allSatisfy { term in
        other.terms.contains { $0.isSame(as: term) }
      }
  }

  /// The adapters without their scales.
  var references: [AdapterReference] { terms.map { AdapterReference(name: $0.name, version: $0.version) } }
}
