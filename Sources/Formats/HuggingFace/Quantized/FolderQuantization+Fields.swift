/// Reads the fields of each method. A field that would change the values and is not known is refused by name.
extension FolderQuantization {
  /// Fields that are read or change nothing. How codes are packed is seen from the tensors; the remaining fields are about
  /// outliers of activations, or say in which type transformers computes.
  private static let bitsAndBytesFields: Set<String> = [
    "quant_method", "load_in_4bit", "_load_in_4bit", "load_in_8bit", "_load_in_8bit", "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "llm_int8_threshold",
    "llm_int8_skip_modules", "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight",
  ]

  static func readBitsAndBytes(_ fields: HuggingFaceFields, is4Bit: Bool, is8Bit: Bool) throws -> FolderQuantization {
    guard is4Bit != is8Bit else {
      throw fields.failure("load_in_8bit", is4Bit ? "together with load_in_4bit" : "and load_in_4bit are both false")
    }
    try fields.refuse(allBut: bitsAndBytesFields)
    guard is4Bit else { return .bitsAndBytes8 }
    let type = try fields.string("bnb_4bit_quant_type") ?? "fp4"
    guard type == "nf4" || type == "fp4" else {
      throw fields.failure("bnb_4bit_quant_type", "\(type) is not supported, only nf4 and fp4")
    }
    return .bitsAndBytes4(isNF4: type == "nf4")
  }

  /// Fields that are read, and those that say how the codes were found or which kernel multiplies them.
  private static let gptqFields: Set<String> = [
    "quant_method", "bits", "group_size", "desc_act", "sym", "checkpoint_format", "format", "pack_dtype", "lm_head",
    "damp_percent", "damp_auto_increment", "true_sequential", "static_groups", "act_group_aware", "mse",
    "model_name_or_path", "model_file_base_name", "use_cuda_fp16", "use_exllama", "exllama_config", "disable_exllama",
    "max_input_length", "model_seqlen", "batch_size", "pad_token_id", "block_name_to_quantize",
    "module_name_preceding_first_block", "modules_in_block_to_quantize", "cache_block_outputs", "dataset", "tokenizer",
    "meta", "backend", "quantizer", "modules_to_not_convert", "method", "kernel",
  ]

  static func readGPTQ(_ fields: HuggingFaceFields) throws -> FolderQuantization {
    try fields.refuse(allBut: gptqFields)
    let bits = try fields.required("bits") { try fields.integer($0) }
    guard [2, 4, 8].contains(bits) else { throw fields.failure("bits", "\(bits) is not supported, only 2, 4 and 8") }
    let format = try fields.string("checkpoint_format") ?? fields.string("format") ?? "gptq"
    guard format == "gptq" || format == "gptq_v2" else {
      throw fields.failure(
        fields.object["checkpoint_format"] == nil ? "format" : "checkpoint_format",
        "\(format) is not supported, only gptq and gptq_v2")
    }
    if let type = try fields.string("pack_dtype"), type != "int32" {
      throw fields.failure("pack_dtype", "\(type) is not supported, only int32")
    }
    return .gptq(
      GPTQTensor.Format(
        bits: bits, groupSize: try groupSize(fields), needsOrder: try fields.bool("desc_act") ?? false,
        addsOne: format == "gptq"))
  }

  /// `group_size`; `nil` for -1, all columns.
  private static func groupSize(_ fields: HuggingFaceFields) throws -> Int? {
    let size = try fields.integer("group_size") ?? 128
    guard size == -1 || 1...groupLimit ~= size else { throw fields.failure("group_size", "\(size)") }
    return size == -1 ? nil : size
  }

  private static let awqFields: Set<String> = [
    "quant_method", "bits", "w_bit", "group_size", "q_group_size", "zero_point", "version", "format", "backend",
    "modules_to_not_convert", "do_fuse", "modules_to_fuse", "fuse_max_seq_len", "exllama_config", "desc_act", "sym",
    "true_sequential", "damp_percent", "act_group_aware", "batch_size", "cache_block_outputs", "meta", "pack_dtype",
    "lm_head", "method",
  ]

  static func readAWQ(_ fields: HuggingFaceFields) throws -> FolderQuantization {
    try fields.refuse(allBut: awqFields)
    let bits = try fields.integer("bits") ?? fields.integer("w_bit") ?? 4
    guard bits == 4 else { throw fields.failure("bits", "\(bits) is not supported, only 4") }
    guard try fields.bool("zero_point") ?? true else { throw fields.failure("zero_point", "false is not supported") }
    for field in ["version", "format"] {
      if let version = try fields.string(field), version.lowercased() != "gemm" {
        throw fields.failure(field, "\(version) is not supported, only gemm")
      }
    }
    if let size = try fields.integer("q_group_size") {
      guard size == -1 || 1...groupLimit ~= size else { throw fields.failure("q_group_size", "\(size)") }
      return .awq(groupSize: size == -1 ? nil : size)
    }
    return .awq(groupSize: try groupSize(fields))
  }

  private static let float8Fields: Set<String> = [
    "quant_method", "fmt", "activation_scheme", "weight_block_size", "modules_to_not_convert", "modules_to_convert",
    "ignored_layers", "scale_fmt", "dequantize", "activation_scale_ub", "expert_dtype",
  ]

  static func readFloat8(_ fields: HuggingFaceFields) throws -> FolderQuantization {
    try fields.refuse(allBut: float8Fields)
    if let format = try fields.string("fmt"), format != "e4m3", format != "float8_e4m3fn" {
      throw fields.failure("fmt", "\(format) is not supported, only e4m3")
    }
    return .float8(block: try block(fields, "weight_block_size"))
  }

  /// The rows and columns of a block; `nil` if the field is absent or null.
  private static func block(_ fields: HuggingFaceFields, _ key: String) throws -> [Int]? {
    let sizes = try fields.value(key, "two sizes") { value -> [Int]? in
      // Old versions of compressed-tensors write "128x128".
      if let text = value.string { return text.split(separator: "x").compactMap { Int($0) } }
      return value.array?.compactMap { $0.integer }
    }
    guard let sizes else { return nil }
    guard sizes.count == 2, sizes.allSatisfy({ 1...groupLimit ~= $0 }) else {
      throw fields.failure(key, "\(sizes) is not two sizes")
    }
    return sizes
  }

  // MARK: compressed-tensors

  private static let compressedFields: Set<String> = [
    "quant_method", "format", "config_groups", "ignore", "quantization_status", "global_compression_ratio", "version",
    "run_compressed",
  ]
  private static let formats = ["pack-quantized", "int-quantized", "float-quantized", "naive-quantized"]

  static func readCompressedTensors(_ fields: HuggingFaceFields) throws -> FolderQuantization {
    if let sparsity = fields.object["sparsity_config"]?.object {
      let nested = HuggingFaceFields(object: sparsity, file: "\(fields.file): sparsity_config")
      if let format = try nested.string("format"), format != "dense" {
        throw nested.failure("format", "\(format) is not supported")
      }
    }
    try fields.refuse(allBut: compressedFields.union(["sparsity_config"]))
    try check(format: fields)
    guard let groups = fields.object["config_groups"]?.object, !groups.isEmpty else {
      throw fields.failure("config_groups", "missing")
    }
    var bits: Set<Int> = []
    var block: [Int]?
    for (name, group) in groups.pairs {
      let nested = HuggingFaceFields(
        object: group.object ?? JSONObject(keepingFirst: []), file: "\(fields.file): config_groups: \(name)")
      if nested.object["format"] != nil { try check(format: nested) }
      guard let object = nested.object["weights"]?.object else { throw nested.failure("weights", "missing") }
      let weights = HuggingFaceFields(object: object, file: "\(nested.file): weights")
      let strategy = try weights.string("strategy") ?? "tensor"
      guard ["tensor", "channel", "group", "block"].contains(strategy) else {
        throw weights.failure("strategy", "\(strategy) is not supported")
      }
      let count = try weights.integer("num_bits") ?? 8
      let type = try weights.string("type") ?? "int"
      guard [2, 4, 8].contains(count), count == 8 || type == "int" else {
        throw weights.failure("num_bits", "\(count) is not supported, only 2, 4 and 8, and 8 of floats")
      }
      bits.insert(count)
      if strategy == "block" { block = try Self.block(weights, "block_structure") }
    }
    return .compressedTensors(bits: bits.sorted(), block: block)
  }

  private static func check(format fields: HuggingFaceFields) throws {
    let format = try fields.string("format") ?? "none"
    guard formats.contains(format) || format == "mixed-precision" else {
      throw fields.failure("format", "\(format) is not supported, only \(formats.joined(separator: ", "))")
    }
  }
}
