import Formats
import Foundation

/// Reads the parts of tokenizer.json around the model: normalizer, pre-tokenizer, post-processor and decoder.
extension TokenizerJSONReader {
  // MARK: Normalizer

  func normalizer() throws(ModelError) -> Normalizer {
    var steps: [NormalizerStep] = []
    if let tree = document["normalizer"] { try appendNormalizer(tree, "normalizer", &steps) }
    try checkCount(steps.count, "normalizer")
    try checkGrowth(of: steps, "normalizer")
    return Normalizer(steps: steps)
  }

  /// The maximum of steps of a normalizer, a pre-tokenizer or a decoder; published ones have up to nine.
  private static let maximumSteps = 32
  /// The maximum factor by which a text can grow. In published files it is 3 (a space becomes U+2581); NFKC has up to 11.
  private static let maximumGrowth = 64
  /// The same of a token's text in a decoder. In published files texts become shorter.
  private static let maximumDecodedGrowth = 4
  /// The maximum of bytes that are added before a text; U+2581 has three.
  private static let maximumPrefix = 64
  /// The maximum of tokens before a text; published files have one or two.
  private static let maximumPrefixTokens = 16

  /// Refuses steps that could make a short text so long that memory does not suffice.
  private func checkGrowth(
    of steps: [NormalizerStep], _ field: String, limit: Int = Self.maximumGrowth
  ) throws(ModelError) {
    var prefix = 0
    var growth = 1
    var charsmaps = 0
    // Applying two normalization forms makes a text no longer than applying one.
    var form = 1
    for step in steps {
      switch step {
      case .nfc, .nfd: form = max(form, 3)
      case .nfkc, .nfkd: form = max(form, 11)
      case .prepend(let bytes): prefix += bytes.count
      case .replace(let old, let new):
        growth *= max(1, (new.count + old.count - 1) / old.count)
      case .replaceMatches(let regex, let new):
        let shortest = regex.shortestMatch
        // Beside every byte there can be an empty match.
        growth *= shortest == 0 ? new.count + 1 : max(1, (new.count + shortest - 1) / shortest)
        prefix += shortest == 0 ? new.count : 0
      case .scalars(.lowercase): form = max(form, 3)
      case .charsmap:
        // Published rules are a normalization form. Those of a second table could take up what the first one writes.
        form = max(form, 11)
        charsmaps += 1
        if charsmaps > 1 { growth *= PrecompiledCharsmap.longestReplacement }
      case .scalars, .strip: break
      case .sentencePiece: form = max(form, PrecompiledCharsmap.longestReplacement)
      }
      guard growth <= limit, growth * form <= limit else {
        throw failure(field, "its steps can make a text more than \(limit) times as long")
      }
    }
    guard prefix * growth <= Self.maximumPrefix else {
      throw failure(field, "puts up to \(prefix * growth) bytes before a text, more than \(Self.maximumPrefix)")
    }
  }

  private func checkCount(_ count: Int, _ field: String) throws(ModelError) {
    if count > Self.maximumSteps { throw failure(field, "\(count) steps, more than \(Self.maximumSteps)") }
  }

  /// The parts of a Sequence, none of which is read if they are too many.
  private func children(
    _ key: StaticString, of tree: JSONTree, _ field: String
  ) throws(ModelError) -> [JSONTree] {
    let children = tree[key]?.array ?? []
    try checkCount(children.count, field)
    return children
  }

  private func appendNormalizer(
    _ tree: JSONTree, _ field: String, _ steps: inout [NormalizerStep]
  ) throws(ModelError) {
    let type = tree["type"]?.string ?? ""
    try checkCount(steps.count, "normalizer")
    switch type {
    case "Lowercase": steps.append(.scalars(.lowercase))
    case "StripAccents": steps.append(.scalars(.stripAccents))
    case "Nmt": steps.append(.scalars(.nmt))
    case "Strip":
      steps.append(.strip(left: tree["strip_left"]?.bool ?? true, right: tree["strip_right"]?.bool ?? true))
    case "Precompiled": steps.append(.charsmap(try charsmap(tree, field)))
    case "Sequence":
      for (index, child) in try children("normalizers", of: tree, field).enumerated() {
        try appendNormalizer(child, "\(field).normalizers[\(index)]", &steps)
      }
    case "NFC": steps.append(.nfc)
    case "NFD": steps.append(.nfd)
    case "NFKC": steps.append(.nfkc)
    case "NFKD": steps.append(.nfkd)
    case "Prepend":
      guard let prefix = tree["prepend"]?.string else { throw failure("\(field).prepend", "missing") }
      steps.append(.prepend(Array(prefix.utf8)))
    case "Replace":
      if let pattern = tree["pattern"]?["Regex"]?.string, let new = tree["content"]?.string {
        steps.append(.replaceMatches(try regex(pattern, field), with: Array(new.utf8)))
      } else {
        let (old, new) = try replacement(tree, field)
        steps.append(.replace(old, with: new))
      }
    default: throw failure(field, "the normalizer '\(type)' is not supported")
    }
  }

  private func charsmap(_ tree: JSONTree, _ field: String) throws(ModelError) -> PrecompiledCharsmap {
    guard let data = tree["precompiled_charsmap"]?.string.flatMap({ Data(base64Encoded: $0) }) else {
      throw failure("\(field).precompiled_charsmap", "no Base64")
    }
    do {
      return try PrecompiledCharsmap(Array(data))
    } catch {
      throw failure("\(field).precompiled_charsmap", error.reason)
    }
  }

  /// The bytes that a Replace looks for, and those that replace them.
  private func replacement(_ tree: JSONTree, _ field: String) throws(ModelError) -> (old: [UInt8], new: [UInt8]) {
    guard let old = tree["pattern"]?["String"]?.string, !old.isEmpty, let new = tree["content"]?.string else {
      throw failure("\(field).pattern", "only a String is supported")
    }
    return (Array(old.utf8), Array(new.utf8))
  }

  // MARK: Pre-tokenizer

  func preTokenizer() throws(ModelError) -> (steps: [PreTokenizerStep], isByteLevel: Bool) {
    var steps: [PreTokenizerStep] = []
    var isByteLevel = false
    if let tree = document["pre_tokenizer"] { try appendPreTokenizer(tree, "pre_tokenizer", &steps, &isByteLevel) }
    try checkCount(steps.count, "pre_tokenizer")
    return (steps, isByteLevel)
  }

  private func appendPreTokenizer(
    _ tree: JSONTree, _ field: String, _ steps: inout [PreTokenizerStep], _ isByteLevel: inout Bool
  ) throws(ModelError) {
    let type = tree["type"]?.string ?? ""
    try checkCount(steps.count, "pre_tokenizer")
    // Later steps would see GPT-2's alphabet instead of the text.
    if isByteLevel { throw failure(field, "the pre-tokenizer '\(type)' behind ByteLevel is not supported") }
    switch type {
    case "Sequence":
      for (index, child) in try children("pretokenizers", of: tree, field).enumerated() {
        try appendPreTokenizer(child, "\(field).pretokenizers[\(index)]", &steps, &isByteLevel)
      }
    case "Split":
      guard let pattern = tree["pattern"]?["Regex"]?.string ?? literal(tree["pattern"]?["String"]) else {
        throw failure("\(field).pattern", "neither Regex nor String")
      }
      let inverted = tree["invert"]?.bool ?? false
      steps.append(.split(try regex(pattern, field), try behavior(tree, field), inverted: inverted))
    case "Digits":
      let pattern = tree["individual_digits"]?.bool ?? false ? #"\p{N}"# : #"\p{N}+"#
      steps.append(.split(try regex(pattern, field), .isolated, inverted: false))
    case "Punctuation":
      let pattern = #"[\p{P}$+<=>^`|~]"#
      let behavior = tree["behavior"] == nil ? .isolated : try behavior(tree, field)
      steps.append(.split(try regex(pattern, field), behavior, inverted: false))
    case "Whitespace":
      // \w+|[^\w\s]+ of Rust's regular expressions
      let word = #"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}"#
      steps.append(
        .split(
          try regex(pcre2: "[\(word)]+|[^\(word)\(RegexTranslation.whitespace)]+", field), .removed, inverted: true))
    case "WhitespaceSplit": steps.append(.split(try regex(#"\s"#, field), .removed, inverted: false))
    case "CharDelimiterSplit":
      guard let delimiter = literal(tree["delimiter"]), !delimiter.isEmpty else {
        throw failure("\(field).delimiter", "missing")
      }
      steps.append(.split(try regex(delimiter, field), .removed, inverted: false))
    case "ByteLevel":
      isByteLevel = true
      if tree["add_prefix_space"]?.bool ?? true { steps.append(.spacePrefix) }
      if tree["use_regex"]?.bool ?? true {
        steps.append(.split(try regex(SplitPatterns.gpt2, field), .isolated, inverted: false))
      }
    case "Metaspace":
      let (prefix, splits) = try metaspace(tree, field)
      steps.append(.metaspace(prefix: prefix, splits: splits))
    default: throw failure(field, "the pre-tokenizer '\(type)' is not supported")
    }
  }

  private func literal(_ tree: JSONTree?) -> String? { tree?.string.map(RegexTranslation.literal) }

  private func regex(_ pattern: String, _ field: String) throws(ModelError) -> SplitRegex {
    do {
      return try SplitRegex(pattern)
    } catch {
      throw failure("\(field).pattern", error.reason)
    }
  }

  private func regex(pcre2 pattern: String, _ field: String) throws(ModelError) -> SplitRegex {
    do {
      return try SplitRegex(pcre2: pattern)
    } catch {
      throw failure(field, error.reason)
    }
  }

  private func behavior(_ tree: JSONTree, _ field: String) throws(ModelError) -> SplitBehavior {
    let text = tree["behavior"]?.string ?? ""
    guard let behavior = SplitBehavior(rawValue: text) else {
      throw failure("\(field).behavior", "'\(text)' is not supported")
    }
    return behavior
  }

  /// Metaspace's options, also in their older form (`add_prefix_space`).
  private func metaspace(
    _ tree: JSONTree, _ field: String
  ) throws(ModelError) -> (prefix: MetaspacePrefix, splits: Bool) {
    let replacement = tree["replacement"]?.string ?? "\u{2581}"
    guard replacement.utf8.elementsEqual(metaspaceBytes) else {
      throw failure("\(field).replacement", "'\(replacement)' is not supported")
    }
    let splits = tree["split"]?.bool ?? true
    guard let scheme = tree["prepend_scheme"]?.string else {
      return (tree["add_prefix_space"]?.bool ?? true ? .always : .never, splits)
    }
    guard let prefix = MetaspacePrefix(rawValue: scheme) else {
      throw failure("\(field).prepend_scheme", "'\(scheme)' is not supported")
    }
    return (prefix, splits)
  }

  // MARK: Post-processor

  /// The tokens that are put before a text.
  func prefixTokens() throws(ModelError) -> [Int32] {
    guard let tree = document["post_processor"] else { return [] }
    return try prefixTokens(tree, "post_processor")
  }

  private func checkPrefix(_ count: Int) throws(ModelError) {
    if count > Self.maximumPrefixTokens {
      throw failure("post_processor", "\(count) tokens before a text, more than \(Self.maximumPrefixTokens)")
    }
  }

  private func prefixTokens(_ tree: JSONTree, _ field: String) throws(ModelError) -> [Int32] {
    let type = tree["type"]?.string ?? ""
    switch type {
    case "ByteLevel": return []
    case "Sequence":
      var tokens: [Int32] = []
      for (index, child) in try children("processors", of: tree, field).enumerated() {
        // A later processor is applied to the result of an earlier one.
        tokens = try prefixTokens(child, "\(field).processors[\(index)]") + tokens
        try checkPrefix(tokens.count)
      }
      return tokens
    case "TemplateProcessing": return try templateTokens(tree, field)
    default: throw failure(field, "the post-processor '\(type)' is not supported")
    }
  }

  private func templateTokens(_ tree: JSONTree, _ field: String) throws(ModelError) -> [Int32] {
    var tokens: [Int32] = []
    var sawText = false
    let items = tree["single"]?.array ?? []
    // One of them is the text.
    try checkPrefix(items.count - 1)
    for item in items {
      if item["Sequence"] != nil {
        if sawText { throw failure("\(field).single", "the text twice is not supported") }
        sawText = true
        continue
      }
      guard let name = item["SpecialToken"]?["id"]?.string else {
        throw failure("\(field).single", "neither Sequence nor SpecialToken")
      }
      if sawText { throw failure("\(field).single", "a token behind the text ('\(name)') is not supported") }
      guard let special = tree["special_tokens"].flatMap({ member(name, of: $0) }), let ids = special["ids"]?.array
      else { throw failure("\(field).special_tokens", "'\(name)' is missing") }
      try checkPrefix(tokens.count + ids.count)
      for id in ids {
        guard let id = id.tokenID else { throw failure("\(field).special_tokens", "'\(name)' has no token id") }
        tokens.append(id)
      }
    }
    if !sawText { throw failure("\(field).single", "no Sequence") }
    return tokens
  }

  // MARK: Decoder

  /// How tokens become text, and how many spaces are removed at a text's beginning.
  func decoder(
    isByteLevel: Bool
  ) throws(ModelError) -> (decoding: TokenizerDefinition.TokenDecoding, spacesDropped: Int) {
    guard let tree = document["decoder"] else { throw failure("decoder", "missing") }
    if isByteLevel || tree["type"]?.string == "ByteLevel" {
      let type = tree["type"]?.string ?? ""
      let children = type == "Sequence" ? tree["decoders"]?.array ?? [] : [tree]
      guard isByteLevel, children.count == 1, children[0]["type"]?.string == "ByteLevel" else {
        throw failure("decoder", "'\(type)' does not fit the pre-tokenizer")
      }
      return (.byteLevel, 0)
    }
    var state = TextDecoder()
    try appendDecoder(tree, "decoder", &state)
    try checkCount(state.replacements.count, "decoder")
    try checkGrowth(
      of: state.replacements.map { .replace($0.old, with: $0.new) }, "decoder", limit: Self.maximumDecodedGrowth)
    return (.text(replacements: state.replacements, byteTokens: state.byteTokens), state.spacesDropped)
  }

  private struct TextDecoder {
    var replacements: [(old: [UInt8], new: [UInt8])] = []
    var byteTokens = false
    var isFused = false
    var spacesDropped = 0
  }

  private func appendDecoder(_ tree: JSONTree, _ field: String, _ state: inout TextDecoder) throws(ModelError) {
    let type = tree["type"]?.string ?? ""
    if state.isFused && type != "Strip" { throw failure(field, "the decoder '\(type)' behind Fuse is not supported") }
    switch type {
    case "Sequence":
      for (index, child) in try children("decoders", of: tree, field).enumerated() {
        try appendDecoder(child, "\(field).decoders[\(index)]", &state)
      }
    case "Replace": state.replacements.append(try replacement(tree, field))
    case "ByteFallback": state.byteTokens = true
    case "Fuse": state.isFused = true
    case "Metaspace":
      let (prefix, _) = try metaspace(tree, field)
      state.replacements.append((metaspaceBytes, [UInt8(ascii: " ")]))
      if prefix != .never { state.spacesDropped = 1 }
    case "Strip":
      guard state.isFused, tree["content"]?.string == " ", case .number(let start)? = tree["start"],
        case .number(0)? = tree["stop"], (0...16).contains(start), let count = Int(exactly: start)
      else { throw failure(field, "only a Strip of spaces at the start, behind Fuse, is supported") }
      state.spacesDropped = count
    default: throw failure(field, "the decoder '\(type)' is not supported")
    }
  }
}
