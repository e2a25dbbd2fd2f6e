import Formats
import Kernels

/// What an adapter changes beside projections, as the header of its prepared file says it.
struct OtherEntries: Codable, Equatable, Sendable {
  /// The embedding or the head.
  struct Table: Codable, Equatable, Sendable {
    /// 0 without LoRA on it.
    var rank = 0
    /// Bits of the scale of LoRA on it.
    var scale: UInt32 = 0
    /// `AdapterLayout.Extras` of LoRA on it.
    var extras = 0
    /// How many tokens have a difference of their own.
    var tokens = 0

    var isEmpty: Bool { rank == 0 && tokens == 0 }
  }

  /// Ascending: layer · 6 + the norm's index, or -1 for the last norm.
  var norms: [Int] = []
  var embedding: Table?
  var head: Table?

  var isEmpty: Bool { norms.isEmpty && embedding == nil && head == nil }

  static func key(_ norm: OtherChanges.NormKey) -> Int {
    norm.layer.map { $0 * LayerNorm.allCases.count + (LayerNorm.allCases.firstIndex(of: norm.norm) ?? 0) } ?? -1
  }

  static func norm(_ key: Int) -> OtherChanges.NormKey {
    let count = LayerNorm.allCases.count
    return key < 0 ? .last : OtherChanges.NormKey(layer: key / count, norm: LayerNorm.allCases[key % count])
  }

  /// Why the entries do not fit a base; `nil` if they do.
  func problem(_ config: ModelConfig) -> String? {
    for (index, key) in norms.enumerated() {
      let isInOrder = index == 0 || norms[index - 1] < key
      let exists =
        key == -1
        || 0..<config.layerCount * LayerNorm.allCases.count ~= key
          && config.architecture.name(of: Self.norm(key).norm) != nil
      guard isInOrder, exists else { return "norm \(index)" }
    }
    for (name, table) in [("embedding", embedding), ("head", head)] {
      guard let table else { continue }
      let extras = AdapterLayout.Extras(rawValue: table.extras)
      guard !table.isEmpty, 0...PEFTConfig.maximumServedRank ~= table.rank, Float(bitPattern: table.scale).isFinite,
        0...config.vocabularySize ~= table.tokens,
        AdapterLayout.Extras([.rowFactors, .bias]).isSuperset(of: extras)
      else { return name }
    }
    return nil
  }
}

/// Where norms, embedding and head of an adapter lie, counted from the end of its stacks.
struct OtherLayout {
  /// A part that is converted and written at once.
  struct Section {
    enum Content {
      /// f32, [size]
      case norm(OtherChanges.NormKey, size: Int)
      /// The embedding's A token by token, then B, in f32; the head's as those of projections.
      case factors(PEFTConfig.Table)
      /// Int32, [tokens]
      case tokens(PEFTConfig.Table)
      /// Differences of some of the tokens, by their indices among the ids. The head's are in tile order, whole groups.
      case rows(PEFTConfig.Table, Range<Int>)
      /// The exponent of the scales' unit, up to a cache line; then the scales in f16.
      case headScales
    }

    let content: Content
    let offset: Int
    /// In bytes, without what fills up the last cache line.
    let length: Int
    /// In bytes, with it.
    var paddedLength: Int { LowRankLayout.aligned(length) }
  }

  let entries: OtherEntries
  let element: LowRankFactors.Element
  let headFactors: AdapterLayout.FactorParts?
  /// Columns that share a scale in the head's rows; `nil` for rows in f32.
  let headBlock: Int?
  let sections: [Section]
  let length: Int
  private let config: ModelConfig

  /// Rows of a table that are converted at once; a multiple of 16.
  private static let chunk = 256

  /// - Parameter entries: that fit the base
  init(_ entries: OtherEntries, config: ModelConfig, element: LowRankFactors.Element) {
    var sections: [Section] = []
    var end = 0
    func add(_ content: Section.Content, _ length: Int) {
      sections.append(Section(content: content, offset: end, length: length))
      end += LowRankLayout.aligned(length)
    }
    let (hidden, vocabulary) = (config.hiddenSize, config.vocabularySize)
    for key in entries.norms {
      let norm = OtherEntries.norm(key)
      let size = norm.layer == nil ? hidden : config.size(of: norm.norm)
      add(.norm(norm, size: size), size * 4)
    }
    func addRows(_ table: PEFTConfig.Table, _ tokens: Int, _ length: (_ rows: Int) -> Int) {
      if tokens > 0 { add(.tokens(table), tokens * 4) }
      for first in stride(from: 0, to: tokens, by: Self.chunk) {
        let rows = first..<min(first + Self.chunk, tokens)
        add(.rows(table, rows), length(rows.count))
      }
    }
    if let table = entries.embedding {
      if table.rank > 0 { add(.factors(.embedding), (vocabulary + hidden) * table.rank * 4) }
      addRows(.embedding, table.tokens) { $0 * hidden * element.size }
    }
    var headFactors: AdapterLayout.FactorParts?
    let headBlock = element == .f32 ? nil : TileLayout.scaleBlock(columns: hidden, blockSize: 64)
    if let table = entries.head {
      if table.rank > 0 {
        let layout = LowRankLayout(rank: table.rank, columns: hidden, outputs: vocabulary, element: element)
        var parts = [AdapterLayout.FactorParts(layout, extras: AdapterLayout.Extras(rawValue: table.extras))]
        add(.factors(.head), AdapterLayout.FactorParts.place(&parts))
        headFactors = parts[0]
      }
      addRows(.head, table.tokens) {
        TileLayout.denseCount(outputs: $0, columns: hidden) * (headBlock == nil ? 4 : 1)
      }
      if table.tokens > 0, let headBlock {
        let count = TileLayout.scaleCount(outputs: table.tokens, columns: hidden, block: headBlock)
        add(.headScales, LowRankLayout.aligned(4) + count * 2)
      }
    }
    self.entries = entries
    self.element = element
    self.headFactors = headFactors
    self.headBlock = headBlock
    self.sections = sections
    self.config = config
    length = end
  }

  /// The changes that lie from `start` on, written by `AdapterConverter.convert` or mapped from a file.
  /// - Parameters:
  ///   - start: on a cache line
  ///   - owner: keeps the bytes in place and unchanged
  /// - Throws: `ModelError` for ids of tokens that are not the base's, or scales without a unit
  func changes(at start: UnsafeRawPointer, owner: any AnyObject & Sendable, subject: String) throws -> OtherChanges {
    var norms: [OtherChanges.NormKey: UnsafePointer<Float>] = [:]
    var normBytes = 0
    var parts: [PEFTConfig.Table: Parts] = [:]
    for section in sections {
      let place = start + section.offset
      switch section.content {
      case .norm(let key, _):
        norms[key] = place.assumingMemoryBound(to: Float.self)
        normBytes += section.length
      case .factors(let table): parts[table, default: Parts()].add(section) { $0.factors = place }
      case .tokens(let table):
        let tokens = try tokens(place, table == .embedding ? entries.embedding : entries.head, subject)
        parts[table, default: Parts()].add(section) { $0.tokens = tokens }
      case .rows(let table, _): parts[table, default: Parts()].add(section) { $0.rows = $0.rows ?? place }
      case .headScales:
        let exponent = Int(place.loadUnaligned(as: Int32.self))
        guard HalfScale.exponents.contains(exponent) else {
          throw ModelError(subject, "head", reason: "without the unit of its scales")
        }
        let values = (place + LowRankLayout.aligned(4)).assumingMemoryBound(to: UInt16.self)
        parts[.head, default: Parts()].add(section) { $0.scale = HalfScale(values: values, exponent: exponent) }
      }
    }
    let embedding = entries.embedding.map { table in
      let parts = parts[.embedding] ?? Parts()
      let factors = parts.factors.map { place in
        let a = place.assumingMemoryBound(to: Float.self)
        return EmbeddingChange.Factors(
          rank: table.rank, scale: Float(bitPattern: table.scale), a: a, b: a + config.vocabularySize * table.rank)
      }
      return EmbeddingChange(
        hiddenSize: config.hiddenSize, factors: factors, tokens: parts.tokens, rows: parts.rows, element: element,
        byteCount: parts.byteCount, owner: owner)
    }
    let head = entries.head.map { table in
      let parts = parts[.head] ?? Parts()
      return HeadChange(
        update: parts.factors.flatMap {
          headFactors?.update(at: $0, scale: Float(bitPattern: table.scale), owner: owner)
        }, tokens: parts.tokens, rows: parts.rows.map { matrix($0, parts.scale, outputs: table.tokens, owner: owner) },
        byteCount: parts.byteCount)
    }
    return OtherChanges(norms: norms, normBytes: normBytes, embedding: embedding, head: head, owner: owner)
  }

  /// The sections that change the embedding, or those that change the head. A section that the adapter does not have is nil.
  private struct Parts {
    var factors: UnsafeRawPointer?
    var tokens: ChangedTokens?
    /// Of the first of the rows.
    var rows: UnsafeRawPointer?
    var scale: HalfScale?
    var byteCount = 0

    mutating func add(_ section: Section, _ set: (inout Parts) -> Void) {
      byteCount += section.length
      set(&self)
    }
  }

  private func tokens(_ place: UnsafeRawPointer, _ table: OtherEntries.Table?, _ subject: String) throws
    -> ChangedTokens
  {
    let (ids, count) = (place.assumingMemoryBound(to: Int32.self), table?.tokens ?? 0)
    for i in 0..<count {
      guard 0..<Int32(config.vocabularySize) ~= ids[i], i == 0 || ids[i - 1] < ids[i] else {
        throw ModelError(subject, "token \(i)", reason: "does not fit the base")
      }
    }
    return ChangedTokens(ids: ids, count: count)
  }

  private func matrix(
    _ data: UnsafeRawPointer, _ scale: HalfScale?, outputs: Int, owner: any AnyObject & Sendable
  ) -> Matrix {
    guard let scale, let block = headBlock else {
      return Matrix(
        dense: data.assumingMemoryBound(to: Float.self), outputs: outputs, columns: config.hiddenSize, owner: owner)
    }
    return Matrix(
      int8: data, scale: scale, outputs: outputs, columns: config.hiddenSize, block: block, owner: owner)
  }
}
