/// How a folder's weights are quantised: the `quantization_config` of its config.json. Which weights are quantised is seen
/// from the tensors; so modules that a configuration leaves out have their own values.
enum FolderQuantization: Sendable, Equatable {
  /// Not at all.
  case none
  /// bitsandbytes' 4-bit codes; true for NF4, false for FP4.
  case bitsAndBytes4(isNF4: Bool)
  /// bitsandbytes' LLM.int8.
  case bitsAndBytes8
  /// GPTQ.
  case gptq(GPTQTensor.Format)
  /// AWQ; columns that share a scale, `nil` for all.
  case awq(groupSize: Int?)
  /// 8-bit floats with scales; the rows and columns of a block, if there are blocks.
  case float8(block: [Int]?)
  /// compressed-tensors: the bits of packed codes, and the rows and columns of a block, if there are blocks.
  case compressedTensors(bits: [Int], block: [Int]?)

  private static let key = "quantization_config"
  static let groupLimit = 1 << 20

  /// - Throws: `ModelError` naming the field of a quantisation that is not supported
  init(_ fields: HuggingFaceFields) throws {
    guard let value = fields.object[Self.key], !value.isNull else {
      self = .none
      return
    }
    guard let object = value.object else { throw fields.failure(Self.key, "is not an object") }
    let nested = HuggingFaceFields(object: object, file: "\(fields.file): \(Self.key)")
    let is4Bit = try nested.bool("load_in_4bit") ?? nested.bool("_load_in_4bit") ?? false
    let is8Bit = try nested.bool("load_in_8bit") ?? nested.bool("_load_in_8bit") ?? false
    // Early versions of transformers wrote no quant_method for bitsandbytes.
    let method = try nested.string("quant_method") ?? (is4Bit || is8Bit ? "bitsandbytes" : "none")
    switch method {
    case "bitsandbytes": self = try .readBitsAndBytes(nested, is4Bit: is4Bit, is8Bit: is8Bit)
    case "gptq": self = try .readGPTQ(nested)
    case "awq": self = try .readAWQ(nested)
    case "fp8", "fbgemm_fp8": self = try .readFloat8(nested)
    case "compressed-tensors": self = try .readCompressedTensors(nested)
    default:
      throw nested.failure(
        "quant_method",
        "\(method) is not supported, only bitsandbytes, gptq, awq, fp8, fbgemm_fp8 and compressed-tensors")
    }
  }

  /// The NF4 codes of the folder are kept, and what it leaves unquantised stays exact.
  var isNF4: Bool { self == .bitsAndBytes4(isNF4: true) }

  /// The quantised form of a weight; `nil` if the folder has its values.
  /// - Parameters:
  ///   - weight: the matrix's name, "….weight"
  ///   - shape: [rows, columns], which it must have
  /// - Throws: `ModelError` naming the tensor that is missing or does not fit
  func tensor(
    _ weight: String, shape: [Int], in folder: SafetensorsFolder
  ) throws -> (any QuantizedTensor)? {
    let module = String(weight.dropLast(".weight".count))
    func has(_ name: String) -> Bool { folder.tensor(name) != nil }
    switch self {
    case .none:
      let signs =
        [weight + "_packed", module + ".qweight", module + ".SCB"] + ScaledTensor.scaleNames.map { module + $0 }
      guard BitsAndBytesTensor.exists(weight, in: folder) || signs.contains(where: has) else { return nil }
      throw ModelError("config.json", Self.key, reason: "missing, but \(weight) is quantised")
    case .bitsAndBytes4(let isNF4):
      guard BitsAndBytesTensor.exists(weight, in: folder) else { return nil }
      return try BitsAndBytesTensor(weight, shape: shape, isNF4: isNF4, in: folder)
    case .bitsAndBytes8:
      guard has(module + ".SCB") || folder.tensor(weight)?.type == .i8 else { return nil }
      return try ScaledTensor(bitsAndBytes: weight, shape: shape, in: folder)
    case .gptq(let format):
      return try has(module + ".qweight") ? GPTQTensor(weight, shape: shape, format: format, in: folder) : nil
    case .awq(let groupSize):
      return try has(module + ".qweight") ? AWQTensor(weight, shape: shape, groupSize: groupSize, in: folder) : nil
    case .float8(let block):
      guard let type = folder.tensor(weight)?.type, ScaledTensor.floatTypes.contains(type) else { return nil }
      return try ScaledTensor(weight, shape: shape, types: ScaledTensor.floatTypes, block: block, in: folder)
    case .compressedTensors(let bits, let block):
      if has(weight + "_packed") { return try PackedTensor(weight, shape: shape, bits: bits, in: folder) }
      let types = ScaledTensor.floatTypes + [.i8]
      guard let type = folder.tensor(weight)?.type, types.contains(type) else { return nil }
      return try ScaledTensor(weight, shape: shape, types: types, block: block, in: folder)
    }
  }
}
