public import Formats
public import Kernels

extension ModelConfig {
  /// The sizes of a published model, for benchmarks with random weights: "135m", "1b" or "8b".
  public static func published(_ name: String) -> ModelConfig? {
    func config(
      _ hidden: Int, _ intermediate: Int, layers: Int, heads: Int, keyValueHeads: Int, head: Int, vocabulary: Int
    ) -> ModelConfig {
      ModelConfig(
        vocabularySize: vocabulary, hiddenSize: hidden, intermediateSize: intermediate, layerCount: layers,
        headCount: heads, keyValueHeadCount: keyValueHeads, headSize: head, contextLength: 8192, rmsNormEpsilon: 1e-5,
        rope: RoPEParameters(theta: 500_000), tiedHead: true, bosToken: nil, eosTokens: [])
    }
    switch name {
    case "135m": return config(576, 1536, layers: 30, heads: 9, keyValueHeads: 3, head: 64, vocabulary: 49152)
    case "1b": return config(2048, 8192, layers: 16, heads: 32, keyValueHeads: 8, head: 64, vocabulary: 128_256)
    case "8b": return config(4096, 14336, layers: 32, heads: 32, keyValueHeads: 8, head: 128, vocabulary: 128_256)
    default: return nil
    }
  }
}

extension Base {
  /// Random weights of a model's size, in memory, for benchmarks. The embedding has only `syntheticVocabulary` rows.
  public static func synthetic(_ config: ModelConfig, mode: ComputeMode) -> Base {
    let memory = SyntheticMemory()
    let norm = UnsafePointer(memory.floats(config.hiddenSize, magnitude: 1))
    func stack(_ place: ProjectionStack) -> StackedWeights {
      let modules = place.projections(config)
      let (offsets, outputs) = StackedWeights.layout(modules, config)
      let columns = modules[0].shape(config).input
      let codes = memory.bytes(TileLayout.codeBytes(outputs: outputs, columns: columns))
      let scaleCount = TileLayout.scaleCount(outputs: outputs, columns: columns, block: 64)
      let scale = memory.floats(scaleCount, magnitude: 0.05)
      let half = mode == .f32 ? nil : memory.halves(UnsafeBufferPointer(start: scale, count: scaleCount))
      return StackedWeights(
        matrix: Matrix(
          nf4: codes, scale: scale, halfScale: half, outputs: outputs, columns: columns, block: 64, owner: memory),
        offsets: offsets)
    }
    let layers = (0..<config.layerCount).map { _ in
      Layer(
        norm: { config.architecture.name(of: $0) == nil ? nil : norm }, queryKeyValue: stack(.queryKeyValue),
        output: stack(.output), gateUp: stack(.gateUp), down: stack(.down))
    }
    let (outputs, columns) = (config.vocabularySize, config.hiddenSize)
    let embedding = Matrix(
      dense: memory.floats(syntheticVocabulary * columns, magnitude: 1), outputs: syntheticVocabulary, columns: columns,
      owner: memory)
    let head =
      mode == .f32
      ? Matrix(
        dense: memory.floats(outputs * columns, magnitude: 0.05), outputs: outputs, columns: columns, owner: memory)
      : Matrix(
        int8: memory.bytes(outputs * columns),
        scale: memory.halves(
          UnsafeBufferPointer(
            start: memory.floats(outputs * columns / 64, magnitude: 0.001), count: outputs * columns / 64)),
        outputs: outputs, columns: columns, block: 64, owner: memory)
    return Base(
      config: config, fingerprint: "synthetic", layers: layers, finalNorm: norm,
      embedding: embedding, head: head, owner: memory)
  }

  /// Tokens below this may be fed to a synthetic base.
  public static var syntheticVocabulary: Int { 1024 }
}

extension Adapter {
  /// Random factors for every projection of every layer, for benchmarks.
  public static func synthetic(base: Base, rank: Int, seed: Int, mode: ComputeMode) -> Adapter {
    var state = UInt64(truncatingIfNeeded: seed) &* 0x9E37_79B9_7F4A_7C15 | 1
    func values(_ count: Int) -> [Float] {
      (0..<count).map { _ in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Float(Int64(bitPattern: state) >> 40) * 0x1p-27
      }
    }
    let updates = (0..<base.config.layerCount).flatMap { layer in
      base.config.projections.map { projection in
        let shape = projection.shape(base.config)
        let factors = LowRankFactors(
          a: values(rank * shape.input), b: values(shape.output * rank), rank: rank, columns: shape.input,
          outputs: shape.output, element: mode.adapterElement)
        return (layer, projection, Update(factors: factors, scale: 1))
      }
    }
    return Adapter(contentHash: "synthetic \(seed)", layerCount: base.config.layerCount, updates: updates)
  }
}

/// Buffers with random contents, which live as long as this object.
///
/// `@unchecked Sendable`: one thread fills the buffers before others read them.
private final class SyntheticMemory: @unchecked Sendable {
  private var buffers: [AlignedBuffer<UInt64>] = []
  private var state: UInt64 = 0x9E37_79B9_7F4A_7C15

  func bytes(_ count: Int) -> UnsafeRawPointer {
    let buffer = AlignedBuffer<UInt64>(count: (count + 7) / 8)
    for i in 0..<buffer.count { buffer.pointer[i] = next() }
    buffers.append(buffer)
    return UnsafeRawPointer(buffer.pointer)
  }

  /// Values between half the magnitude and the magnitude.
  func floats(_ count: Int, magnitude: Float) -> UnsafePointer<Float> {
    let buffer = AlignedBuffer<UInt64>(count: (count + 1) / 2)
    let floats = UnsafeMutableRawPointer(buffer.pointer).assumingMemoryBound(to: Float.self)
    for i in 0..<count { floats[i] = magnitude * (0.5 + Float(next() >> 40) * 0x1p-25) }
    buffers.append(buffer)
    return UnsafePointer(floats)
  }

  func halves(_ scales: UnsafeBufferPointer<Float>) -> HalfScale {
    let (values, exponent) = HalfScale.round(Array(scales))
    let buffer = AlignedBuffer<UInt64>(count: (values.count + 3) / 4)
    let halves = UnsafeMutableRawPointer(buffer.pointer).bindMemory(to: UInt16.self, capacity: values.count)
    halves.update(from: values, count: values.count)
    buffers.append(buffer)
    return HalfScale(values: halves, exponent: exponent)
  }

  private func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }
}
