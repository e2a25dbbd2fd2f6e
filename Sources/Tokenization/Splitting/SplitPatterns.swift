/// The split patterns that GGUF files name (`tokenizer.ggml.pre`), as the models' own tokenizer.json files have them.
struct SplitPatterns {
  /// Applied one after the other; a match is a piece, and so is the text between two matches.
  var patterns: [String]
  var takesWholePieces = false
  var composes = false
  /// A pattern of numbers that are split from the right into groups of three, before the other patterns are applied.
  var digitGroups: String?
  /// The same within the pieces that the other patterns make.
  var innerDigitGroups: String?

  static let gpt2 = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
  private static let digit = #"\p{N}"#
  private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  static let llama3 = words(digits: #"\p{N}{1,3}"#)
  private static let qwen2 = words(digits: digit)
  private static let qwen35 =
    contractions
    + #"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let punctuation = #"[\p{P}\$\+<=>\^~\|`]+"#

  /// The pattern of GPT-4: contractions, words, numbers, punctuation, ends of lines, spaces.
  private static func words(digits: String, spaces: String = #"|\s+(?!\S)|\s+"#) -> String {
    contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|"# + digits + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"# + spaces
  }

  /// The pattern of Tekken and GPT-4o, which splits words at changes of case.
  /// - Parameters:
  ///   - suffix: what can follow a word
  ///   - digits: the pattern of numbers
  private static func cased(suffix: String, digits: String) -> String {
    let start = #"[^\r\n\p{L}\p{N}]?"#
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    return "\(start)\(upper)*\(lower)+\(suffix)|\(start)\(upper)+\(lower)*\(suffix)|\(digits)"
      + #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  /// - Parameter name: `tokenizer.ggml.pre`; the result is `nil` for an unknown one
  init?(named name: String) {
    switch name {
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2":
      patterns = [Self.digit, Self.gpt2]
    case "gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2", "exaone4", "trillion", "granite-docling", "a.x-4.0", "mellum",
      "gigachat":
      patterns = [Self.gpt2]
    case "", "default":
      // The default of llama.cpp for files that name nothing.
      patterns = [#"[\p{P}\$\+<=>\^~\|]+"#, Self.gpt2, #"\p{N}+"#, "[0-9][0-9][0-9]"]
    case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2":
      patterns = [Self.llama3]
      takesWholePieces = true
    case "dbrx", "smaug-bpe", "chatglm-bpe": patterns = [Self.llama3]
    case "glm4", "glm5":
      patterns = [Self.llama3]
      takesWholePieces = true
    case "minicpm5":
      patterns = [#"\p{N}{1,3}"#, Self.words(digits: #"\p{N}+"#)]
      takesWholePieces = true
    case "jais-2": patterns = [Self.jais2]
    case "qwen2", "deepseek-r1-qwen", "megrez", "kormo", "f2llmv2":
      patterns = [Self.qwen2]
      composes = true
    case "qwen35": patterns = [Self.qwen35]
    case "stablelm2", "hunyuan", "solar-open", "grok-2": patterns = [Self.qwen2]
    case "ufakzeka": patterns = [String(Self.qwen2.dropFirst(Self.contractions.count + 1))]
    case "laguna": patterns = [Self.lines, Self.qwen2]
    case "exaone-moe":
      patterns = [
        Self.contractions
          + #"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]"#
          + #"|\s+(?!\S)|\s+"#
      ]
    case "tekken":
      patterns = [Self.cased(suffix: "", digits: Self.digit)]
      takesWholePieces = true
    case "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2":
      patterns = [Self.cased(suffix: "\(Self.contractions)?", digits: #"\p{N}{1,3}"#)]
    case "youtu":
      patterns = [Self.youtu, Self.cased(suffix: "\(Self.contractions)?", digits: Self.digit)]
      takesWholePieces = true
    case "tiny_aya", "cohere2moe":
      // \d{1,3}(?=(?:\d{3})*\b), without its search to the end of the number at each digit
      digitGroups = #"(?<!\p{Nd})\p{Nd}++(?![\p{L}\p{M}\p{N}\p{Pc}])"#
      patterns = [Self.cased(suffix: "\(Self.contractions)?", digits: #"\p{N}{1,3}"#)]
    case "kimi-k2": patterns = [Self.kimi]
    case "falcon": patterns = [Self.punctuation, Self.gpt2, "[0-9][0-9][0-9]"]
    case "chameleon":
      patterns = [
        "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", #"([\t\n]|    |  )"#, Self.digit,
        #"[\p{P}!-/:-@\[-`{-~]"#, Self.gpt2,
      ]
    case "poro-chat", "bloom", "gpt3-finnish": patterns = [Self.bloom]
    case "viking": patterns = [Self.bloom, Self.digit]
    case "superbpe":
      // \p{N}+, then the places before (?=(\d{3})+(?!\d))
      patterns = [#"\p{N}+"#]
      innerDigitGroups = #"\p{Nd}++"#
    case "deepseek-llm":
      patterns = [
        #"[\r\n]"#, Self.deepSeekLetters,
        #"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+"#, #"\s+$"#,
        Self.deepSeekIdeographs, #"\p{N}+"#,
      ]
    case "deepseek-coder": patterns = [#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, Self.deepSeekIdeographs, Self.digit]
    case "deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4":
      patterns = [
        #"\p{N}{1,3}"#, Self.deepSeek3Ideographs, Self.deepSeek3(ending: #" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"#),
      ]
    case "spark2_5":
      patterns = [
        #"\p{N}{1,3}"#, Self.deepSeek3Ideographs, Self.deepSeek3(ending: #" ?[\p{P}\p{S}]+|[\r\n]"#), Self.digit,
      ]
    case "afmoe":
      digitGroups = #"\p{N}++"#
      patterns = [Self.afmoeScripts, Self.deepSeek3(ending: #" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"#)]
    case "seed-coder":
      patterns = [
        Self.contractions
          + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case "bailingmoe", "bailingmoe2", "llada-moe":
      patterns = [
        #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#
      ]
    case "sarvam-moe", "gemma4": patterns = [Self.lines]
    default: return nil
    }
  }

  /// A line, or the ends of lines.
  private static let lines = #"[^\n]+|[\n]+"#
  private static let bloom = #" ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+"#
  private static let youtu =
    #"[\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+"#
    + #"|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019}\x{2014}\x{ff1a}\x{ff1b}\x{ff0c}\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+"#
    + #"|[\x{3105}-\x{312f}]+|[\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+"#
  private static let jais2 =
    words(digits: #"\p{N}{1,3}"#, spaces: "")
    + [512, 256, 128, 64, 32, 16, 8, 4].map { #"|\s{\#($0)}(?!\S)"# }.joined() + #"|\s{1,2}(?!\S)|\s{1}"#
  private static let afmoeScripts =
    #"[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{f900}-\x{faff}\x{3040}-\x{30ff}\x{ff65}-\x{ff9f}\x{2f00}-\x{2fdf}"#
    + #"\x{e40}-\x{e7f}\x{e80}-\x{eff}\x{1780}-\x{17ff}\x{1000}-\x{109f}\x{aa60}-\x{aa7f}\x{a9e0}-\x{a9ff}"#
    + #"\x{ac00}-\x{d7af}\x{1100}-\x{11ff}]+"#

  /// Kimi K2's words: those of GPT-4o without Chinese characters, which are words of their own. Its classes are
  /// intersections (`[...&&[^\p{Han}]]`), which are written as look-aheads here.
  private static let kimi: String = {
    let start = #"[^\r\n\p{L}\p{N}]?"#
    let upper = #"(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"#
    let lower = #"(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])"#
    return #"\p{Han}+|"# + "\(start)\(upper)*\(lower)+\(contractions)?|\(start)\(upper)+\(lower)*\(contractions)?"
      + #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }()

  /// DeepSeek V3's pattern, with its own punctuation and ends of lines.
  private static func deepSeek3(ending: String) -> String {
    ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"## + ending
      + #"|\s+(?!\S)|\s+"#
  }

  private static let deepSeek3Ideographs = #"[\x{4e00}-\x{9fa5}\x{3040}-\x{30ff}]+"#
  private static let deepSeekIdeographs = #"[\x{800}-\x{9fa5}\x{ac00}-\x{d7ff}]+"#

  /// DeepSeek's cased letters: those of an older Unicode, without Georgian and the mathematical alphabets.
  private static let deepSeekLetters =
    #"\s?[A-Za-z"#
    + #"\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}"#
    + #"\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}"#
    + #"\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}"#
    + #"\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}"#
    + #"\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}"#
    + #"\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}"#
    + #"\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}"#
    + #"\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}"#
    + #"\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}"#
    + #"\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}"#
    + #"\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}"#
    + #"\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}"#
    + #"\x{118a0}-\x{118df}\x{1e900}-\x{1e943}"#
    + "]+"
}
