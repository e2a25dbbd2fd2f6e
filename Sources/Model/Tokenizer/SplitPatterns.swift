/// The split patterns that GGUF files go by name (`tokenizer.ggml.pre`), as the models' own tokenizer.json has them.
struct SplitPatterns {
  /// Applied one after the other; matches and the text between them are pieces.
  var patterns: [String]
  var takesWholePieces = false
  var composes = false

  static let gpt2 = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
  private static let digit = #"\p{N}"#
  private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  private static let llama3 =
    contractions
    + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let qwen2 =
    contractions + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let qwen35 =
    contractions
    + #"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let punctuation = #"[\p{P}\$\+<=>\^~\|`]+"#

  /// Words that begin or end in a capital, as Tekken and GPT-4o cut them, with what may follow each.
  private static func cased(suffix: String, digits: String) -> String {
    let start = #"[^\r\n\p{L}\p{N}]?"#
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    return "\(start)\(upper)*\(lower)+\(suffix)|\(start)\(upper)+\(lower)*\(suffix)|\(digits)"
      + #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  /// `nil` for a name that is not known.
  init?(named name: String) {
    switch name {
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b":
      patterns = [Self.digit, Self.gpt2]
    case "gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2", "exaone4", "trillion", "granite-docling", "a.x-4.0", "mellum",
      "gigachat":
      patterns = [Self.gpt2]
    case "", "default":
      // What readers of GGUF take for files that name nothing.
      patterns = [#"[\p{P}\$\+<=>\^~\|]+"#, Self.gpt2, #"\p{N}+"#, "[0-9][0-9][0-9]"]
    case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2":
      patterns = [Self.llama3]
      takesWholePieces = true
    case "dbrx", "smaug-bpe", "chatglm-bpe": patterns = [Self.llama3]
    case "glm4":
      patterns = [Self.llama3]
      takesWholePieces = true
    case "qwen2", "deepseek-r1-qwen", "megrez":
      patterns = [Self.qwen2]
      composes = true
    case "qwen35":
      patterns = [Self.qwen35]
      composes = true
    case "stablelm2", "hunyuan", "solar-open", "grok-2": patterns = [Self.qwen2]
    case "tekken":
      patterns = [Self.cased(suffix: "", digits: #"\p{N}"#)]
      takesWholePieces = true
    case "gpt-4o", "llama4", "kanana2": patterns = [Self.cased(suffix: "\(Self.contractions)?", digits: #"\p{N}{1,3}"#)]
    case "falcon": patterns = [Self.punctuation, Self.gpt2, "[0-9][0-9][0-9]"]
    case "deepseek-llm":
      patterns = [
        #"[\r\n]"#, Self.deepSeekLetters, #"\s?[!-/:-~！-／：-～‘-‟　-。]+"#, #"\s+$"#, "[一-龥ࠀ-一가-퟿]+", #"\p{N}+"#,
      ]
    case "deepseek-coder": patterns = [#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, "[一-龥ࠀ-一가-퟿]+", Self.digit]
    case "deepseek-v3", "hunyuan-dense":
      patterns = [
        #"\p{N}{1,3}"#, "[一-龥぀-ゟ゠-ヿ]+",
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"##
          + #" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
      ]
    case "seed-coder":
      patterns = [
        Self.contractions
          + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case "bailingmoe", "bailingmoe2", "llada-moe":
      patterns = [
        #"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#
      ]
    default: return nil
    }
  }

  /// Cased letters of Unicode 15's alphabetic scripts but the Georgian and a few others.
  private static let deepSeekLetters =
    #"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼι"#
    + "ῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    + "𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
}
