public import Formats
public import Kernels

/// What a base needs on the disk and in memory, computed from its configuration alone.
public struct BaseForecast: Sendable, Equatable {
  /// Weights, norms and biases; a tied head counts once.
  public let parameters: Int
  /// Bytes of the prepared file.
  public let preparedBytes: Int
  /// Bytes of the prepared file that every token reads, which should stay in memory.
  public let weightBytes: Int
  /// Bytes of the embedding if only the rows of the tokens are read; 0 if it is read as the head.
  public let embeddingBytes: Int
  /// Bytes of the keys and values of one sequence that fills the context.
  public let cacheBytes: Int
  /// Bytes of a forward pass's buffers and of the tables of positions.
  public let workspaceBytes: Int
  /// The maximum of bytes beyond the page cache while the base is prepared: the rows and scales that are in memory at
  /// a time.
  public let preparingBytes: Int

  /// Bytes of memory while one sequence fills the context, without the program itself.
  public var servingBytes: Int { weightBytes + cacheBytes + workspaceBytes }

  /// - Parameters:
  ///   - storage: how the published model stores a projection's weight, by the weight's name
  ///   - mode: which weights are read
  ///   - element: the number format of keys and values; `nil` for the mode's
  ///   - contextLength: positions of the longest sequence
  ///   - threads: that prepare the base
  /// - Throws: `ModelError` for sizes whose header would be too large
  public init(
    _ config: ModelConfig, storage: (String) -> WeightStorage = { _ in .plain }, mode: ComputeMode,
    element: KeyValueLayout.Element? = nil, contextLength: Int, threads: Int
  ) throws {
    let layout = PreparedBaseLayout(config, storage: storage)
    let header = try PreparedBaseHeader.planned(
      layout, config: config, sourceHash: String(repeating: "0", count: 64)
    ).header
    preparedBytes = header.sections.last.map { $0.offset + PreparedBaseHeader.pageAligned($0.length) } ?? 0
    parameters = config.tensorShapes().values.reduce(0) { $0 + $1.reduce(1, *) }
    let hasRoundedHead = layout.entries.contains { $0.name == PreparedBaseLayout.headBytes }
    let head = config.tiedHead ? PreparedBaseLayout.embedding : PreparedBaseLayout.head
    weightBytes = layout.entries.reduce(0) { sum, entry in
      sum + (entry.isRead(mode, exactHead: mode == .f32 || !hasRoundedHead ? head : nil) ? entry.length : 0)
    }
    let embedding = TileLayout.denseCount(outputs: config.vocabularySize, columns: config.hiddenSize) * 4
    embeddingBytes = config.tiedHead && (mode == .f32 || !hasRoundedHead) ? 0 : embedding
    let blocks = (contextLength + keyValueBlockLength - 1) / keyValueBlockLength
    let cache = KeyValueLayout(
      headCount: config.headCount, keyValueHeadCount: config.keyValueHeadCount, headSize: config.headSize,
      layerCount: config.layerCount, element: element ?? mode.keyValueElement)
    cacheBytes = blocks * cache.bytesPerBlock
    workspaceBytes =
      Transformer.workspaceBytes(config)
      + contextLength * config.rotarySize * 4 * (config.architecture.localRoPE == nil ? 1 : 2)
    let widest = config.projections.map { $0.shape(config).input }.max() ?? 0
    // Rows in f32, their codes and tiles for each thread, and the scales of the largest stack or of the head.
    let rows = PreparedBaseWriter.stripRows * widest * 4 * 4 * threads
    let scales = layout.entries.filter(\.content.isHalf).map { $0.length * 2 }.max() ?? 0
    preparingBytes = rows + 3 * scales
  }
}

extension PreparedBaseLayout.Entry {
  /// Whether a token reads the section in a mode.
  /// - Parameter exactHead: the section that is the head, if none is rounded for the mode
  fileprivate func isRead(_ mode: ComputeMode, exactHead: String?) -> Bool {
    switch content {
    case .codes, .dense, .vector, .bias: true
    case .scales: mode == .f32
    case .halfScales: mode != .f32
    case .exact(let name): name == exactHead
    case .headBytes, .headScales: exactHead == nil
    }
  }
}
