import Formats
public import Foundation
public import Kernels

/// Writes a model as transformers saves one that bitsandbytes has quantised to NF4 (`QuantState.as_dict`, bitsandbytes
/// 0.50): the projections' codes and scales are those that a prepared base has, and all other tensors stay as they are.
public struct BitsAndBytesFolder {
  private let source: SourceFolder
  private let pool: ThreadPool
  private let usesDoubleQuantization: Bool
  /// The weight that was quantised last: its codes and its scales are asked for one after the other.
  private var last: (name: String, packed: [UInt8], absmax: [Float])?

  /// A multiple of a block, so that no block is in two parts.
  private static let partCount = 1 << 20

  /// - Parameters:
  ///   - base: the Hugging Face folder of the original weights, in F32, F16 or BF16
  ///   - folder: does not exist, or is empty
  ///   - usesDoubleQuantization: the scales are quantised, too
  ///   - shardSize: the maximum of a file's tensors, in bytes; a larger tensor has a file of its own
  ///   - progress: called with the share that is done, 0 ... 1; may throw to stop
  /// - Throws: `ModelError` naming what is wrong with the base, or the path that cannot be written
  public static func write(
    base: URL, to folder: URL, usesDoubleQuantization: Bool, shardSize: Int = MergedFolder.shardSize, pool: ThreadPool,
    progress: (Double) throws -> Void = { _ in }
  ) throws {
    let source = try SourceFolder(base)
    guard !source.model.isMultimodal else {
      throw ModelError(
        "config.json", "model_type", reason: "of a model for images and texts, which is not supported here")
    }
    var writer = BitsAndBytesFolder(source: source, pool: pool, usesDoubleQuantization: usesDoubleQuantization)
    try writer.write(to: folder, shardSize: shardSize, progress: progress)
  }

  private init(source: SourceFolder, pool: ThreadPool, usesDoubleQuantization: Bool) {
    self.source = source
    self.pool = pool
    self.usesDoubleQuantization = usesDoubleQuantization
  }

  /// A tensor of the result, and the weight that it is made of.
  private struct Output {
    let entry: SafetensorsWriter.Entry
    let weight: String
    /// What the tensor has of a weight in NF4; `nil` for a tensor that stays as it is.
    let part: Part?
  }

  private enum Part: CaseIterable {
    case codes, scales, codeMap, nestedScales, nestedMap, state
  }

  private mutating func write(
    to folder: URL, shardSize: Int, progress: (Double) throws -> Void
  ) throws {
    let target = try AtomicFolder(folder)
    let outputs = try source.weights.names.flatMap { try self.outputs(of: $0) }
    let byName = Dictionary(outputs.map { ($0.entry.name, $0) }, uniquingKeysWith: { first, _ in first })
    let plan = ShardPlan(outputs.map(\.entry), size: shardSize)
    var written = 0
    for shard in plan.files {
      let writer = try SafetensorsWriter(
        target.file(shard.name), entries: shard.entries, metadata: ["format": "pt"])
      for entry in writer.order {
        guard let output = byName[entry.name] else { continue }
        if let part = output.part {
          try bytes(of: part, output.weight).withUnsafeBytes { try writer.append($0) }
        } else {
          try copy(entry, to: writer)
        }
        written += entry.byteCount
        try progress(Double(written) / Double(max(plan.byteCount, 1)))
      }
      try writer.finish()
    }
    try plan.writeIndex(to: target)
    try source.copyOthers(to: target, type: nil, quantization: configuration)
    try target.finish()
  }

  private func tensor(_ name: String) throws -> SafetensorsFile.Tensor {
    guard let tensor = source.weights.tensor(name) else {
      throw ModelError(source.weights.subject(name), name, reason: "missing")
    }
    return tensor
  }

  private func outputs(of name: String) throws -> [Output] {
    let tensor = try tensor(name)
    let isProjection = name.hasPrefix("model.layers.") && name.hasSuffix("_proj.weight") && tensor.shape.count == 2
    guard isProjection else {
      return [Output(entry: .init(name: name, type: tensor.type, shape: tensor.shape), weight: name, part: nil)]
    }
    let blocks = NF4.blockCount(tensor.elementCount)
    func output(_ part: Part, _ suffix: String, _ type: SafetensorsType, _ shape: [Int]) -> Output {
      Output(entry: .init(name: name + suffix, type: type, shape: shape), weight: name, part: part)
    }
    var outputs = [
      output(.codes, "", .u8, [NF4.packedCount(tensor.elementCount), 1]), output(.codeMap, ".quant_map", .f32, [16]),
    ]
    if usesDoubleQuantization {
      let groups = NF4.blockCount(blocks, blockSize: DoubleQuantizedAbsmax.blockSize)
      outputs += [
        output(.scales, ".absmax", .u8, [blocks]), output(.nestedScales, ".nested_absmax", .f32, [groups]),
        output(.nestedMap, ".nested_quant_map", .f32, [256]),
      ]
    } else {
      outputs.append(output(.scales, ".absmax", .f32, [blocks]))
    }
    let length = Self.state(tensor, offset: usesDoubleQuantization ? 0 : nil).count
    outputs.append(output(.state, ".quant_state.bitsandbytes__nf4", .u8, [length]))
    return outputs
  }

  /// Copies a tensor as it is stored, a few megabytes at a time.
  private func copy(_ entry: SafetensorsWriter.Entry, to writer: SafetensorsWriter) throws {
    guard let file = source.weights.file(of: entry.name) else {
      throw ModelError(source.weights.subject(entry.name), entry.name, reason: "missing")
    }
    for start in stride(from: 0, to: entry.byteCount, by: Self.partCount * 4) {
      let range = start..<min(start + Self.partCount * 4, entry.byteCount)
      try file.bytes(entry.name, range: range).withUnsafeBytes { try writer.append($0) }
    }
  }

  private mutating func bytes(of part: Part, _ weight: String) throws -> [UInt8] {
    func raw(_ values: [Float]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
    switch part {
    case .codeMap: return raw(NF4.values)
    case .nestedMap: return raw(DynamicMap.signed)
    case .codes: return try quantized(weight).packed
    case .scales:
      let absmax = try quantized(weight).absmax
      return usesDoubleQuantization ? DoubleQuantizedAbsmax(encoding: absmax).codes : raw(absmax)
    case .nestedScales: return raw(DoubleQuantizedAbsmax(encoding: try quantized(weight).absmax).nestedAbsmax)
    case .state:
      let offset =
        usesDoubleQuantization ? DoubleQuantizedAbsmax(encoding: try quantized(weight).absmax).offset : nil
      return Self.state(try tensor(weight), offset: offset)
    }
  }

  /// The text of a weight's `quant_state`, as Python's `json.dumps` writes it.
  /// - Parameter offset: the mean of the scales, if they are quantised; spaces then give all such texts one length
  private static func state(_ tensor: SafetensorsFile.Tensor, offset: Float?) -> [UInt8] {
    let shape = tensor.shape.map(String.init).joined(separator: ", ")
    var text =
      "{\"quant_type\": \"nf4\", \"blocksize\": \(NF4.blockSize), \"dtype\": \"\(typeName(tensor.type))\", "
      + "\"shape\": [\(shape)]"
    guard let offset else { return Array((text + "}").utf8) }
    text += ", \"nested_blocksize\": \(DoubleQuantizedAbsmax.blockSize), \"nested_dtype\": \"float32\", "
    text += "\"nested_offset\": "
    let number = "\(Double(offset))}"
    return Array((text + number + String(repeating: " ", count: max(0, numberLength - number.count))).utf8)
  }

  /// No shorter than the longest text of a double.
  private static let numberLength = 26

  private static func typeName(_ type: SafetensorsType) -> String {
    switch type {
    case .bf16: "bfloat16"
    case .f16: "float16"
    default: "float32"
    }
  }

  private mutating func quantized(_ name: String) throws -> (packed: [UInt8], absmax: [Float]) {
    if let last, last.name == name { return (last.packed, last.absmax) }
    last = nil
    let (packed, absmax) = try quantize(name)
    last = (name, packed, absmax)
    return (packed, absmax)
  }

  private func quantize(_ name: String) throws -> (packed: [UInt8], absmax: [Float]) {
    let tensor = try tensor(name)
    guard let file = source.weights.file(of: name) else { throw ModelError(name, reason: "missing") }
    var packed = [UInt8](repeating: 0, count: NF4.packedCount(tensor.elementCount))
    var absmax = [Float](repeating: 0, count: NF4.blockCount(tensor.elementCount))
    var values = [Float](repeating: 0, count: min(Self.partCount, tensor.elementCount))
    for start in stride(from: 0, to: tensor.elementCount, by: Self.partCount) {
      let end = min(start + Self.partCount, tensor.elementCount)
      try values.withUnsafeMutableBufferPointer {
        try file.readFloats(name, range: start..<end, into: .init(rebasing: $0[..<(end - start)]))
      }
      let failure = NF4.quantize(
        values, count: end - start, pool: pool, packed: &packed, absmax: &absmax, firstElement: start)
      if case .notFinite(let index)? = failure {
        throw ModelError(
          source.weights.subject(name), name, reason: "element \(start + index) is not a finite number")
      }
    }
    return (packed, absmax)
  }

  /// `quantization_config`, as transformers writes it.
  private var configuration: JSONValue {
    let type = source.weights.tensor("model.layers.0.self_attn.o_proj.weight")?.type ?? .f32
    return [
      "_load_in_4bit": true, "_load_in_8bit": false, "bnb_4bit_compute_dtype": .string(Self.typeName(type)),
      "bnb_4bit_quant_storage": "uint8", "bnb_4bit_quant_type": "nf4",
      "bnb_4bit_use_double_quant": .bool(usesDoubleQuantization), "llm_int8_enable_fp32_cpu_offload": false,
      "llm_int8_has_fp16_weight": false, "llm_int8_skip_modules": ["lm_head"], "llm_int8_threshold": .number(6),
      "load_in_4bit": true, "load_in_8bit": false, "quant_method": "bitsandbytes",
    ]
  }
}

extension NF4 {
  /// Quantises some elements of a tensor on several threads.
  /// - Parameters:
  ///   - values: the elements; `count` of them
  ///   - packed: the whole tensor's
  ///   - absmax: the whole tensor's
  ///   - firstElement: the index of the first of the values in the tensor; it begins a block
  fileprivate static func quantize(
    _ values: [Float], count: Int, pool: ThreadPool, packed: inout [UInt8], absmax: inout [Float], firstElement: Int
  ) -> NF4Error? {
    let size = 1 << 16
    let parts = (count + size - 1) / size
    var failures = [NF4Error?](repeating: nil, count: parts)
    values.withUnsafeBufferPointer { values in
      packed.withUnsafeMutableBufferPointer { packed in
        absmax.withUnsafeMutableBufferPointer { absmax in
          failures.withUnsafeMutableBufferPointer { failures in
            nonisolated(unsafe) let (values, packed, absmax, failures) = (values, packed, absmax, failures)
            pool.run(parts: parts) { part in
              let range = part * size..<min((part + 1) * size, count)
              let first = firstElement + range.lowerBound
              let last = firstElement + range.upperBound
              do throws(NF4Error) {
                try quantize(
                  UnsafeBufferPointer(rebasing: values[range]),
                  packed: UnsafeMutableBufferPointer(rebasing: packed[first / 2..<packedCount(last)]),
                  absmax: UnsafeMutableBufferPointer(rebasing: absmax[first / blockSize..<blockCount(last)]))
              } catch {
                switch error {
                case .notFinite(let index): failures[part] = .notFinite(index: range.lowerBound + index)
                }
              }
            }
          }
        }
      }
    }
    return failures.lazy.compactMap(\.self).first
  }
}
