import Formats
import Foundation
import Kernels

/// Reads a PEFT folder, whole or not at all, and writes its tensors in the kernels' layout, stack by stack, then norms,
/// embedding and head. DoRA's row factors are computed from the base's weights.
///
/// Only one part of the adapter is in memory in f32 at a time. The conversion runs on the caller's thread alone; for
/// DoRA it reads the base's weights once.
struct AdapterConverter {
  let layout: AdapterLayout
  /// Whether all updates of projections have row factors.
  let usesDoRA: Bool
  private let reader: PEFTReader
  private let base: Base
  private let tables: ChangedTables
  private let compute = Compute(pool: ThreadPool(threads: 1), mode: .f32)

  /// - Parameter element: the number format of the converted factors
  /// - Throws: `ModelError` naming the field or tensor that is wrong or not supported
  init(peft folder: URL, base: Base, element: LowRankFactors.Element) throws {
    let reader = try PEFTReader(folder: folder, config: base.config, scope: .all)
    usesDoRA = reader.peft.usesDoRA && reader.changes.allSatisfy { $0.lora != nil }
    let (peft, allUseDoRA) = (reader.peft, usesDoRA)
    let entries = reader.changes.map { change in
      var extras: AdapterLayout.Extras = []
      if change.scalesInput == false || (change.lora != nil && peft.usesDoRA && !allUseDoRA) {
        extras.insert(.rowFactors)
      }
      if change.scalesInput == true { extras.insert(.inputChanges) }
      if change.lora == nil { extras.insert(.noFactors) }
      let isBiased = base.config.architecture.biases.contains(change.projection)
      if peft.usesLoRABias && change.lora != nil || change.bias != nil || isBiased && change.scalesInput == false {
        extras.insert(.bias)
      }
      return AdapterLayout.Entry(
        layer: change.layer, projection: change.projection, rank: change.lora?.rank ?? 1,
        scale: change.lora?.scale ?? 1, extras: extras)
    }
    tables = try ChangedTables(reader, base: BaseTables(base))
    let others = tables.entries
    layout = AdapterLayout(
      entries, others: others.isEmpty ? nil : others, config: base.config, element: element, usesDoRA: allUseDoRA)
    self.reader = reader
    self.base = base
  }

  /// Reads a stack's updates and writes their parts.
  /// - Parameter memory: `stack.length` zero bytes on a cache line
  /// - Throws: `ModelError` naming the tensor that is wrong
  func convert(_ stack: AdapterLayout.Stack, into memory: UnsafeMutableRawPointer) throws {
    for part in stack.parts {
      let change = reader.changes[part.index]
      var bias: [Float] = []
      if let target = change.lora {
        let update = try reader.update(target)
        let (matrix, first) = base.matrix(update.projection, layer: update.layer)
        let factors = Factors(
          a: update.a, b: update.b, magnitude: update.magnitude, rank: update.rank, scale: update.scale)
        try pack(factors, part.parts, matrix, firstRow: first, name: change.fullName, into: memory)
        let outputs = part.factors.outputs
        bias = try reader.loraBias(change.fullName, outputs: outputs).map { $0.map { update.scale * $0 } } ?? []
      }
      if let offset = part.parts.bias {
        let all = try biasChange(change, part.factors.outputs, lora: bias)
        memory.advanced(by: offset).copyMemory(from: all, byteCount: all.count * 4)
      }
      guard change.scalesInput != nil else { continue }
      let factors = try reader.scaling(change)
      if let offset = part.parts.rowFactors { part.factors.packRowFactors(factors, into: memory + offset) }
      if let offset = part.parts.inputChanges {
        memory.advanced(by: offset).copyMemory(from: factors.map { $0 - 1 }, byteCount: factors.count * 4)
      }
    }
  }

  /// Reads a norm, or a part of the embedding or the head, and writes it.
  /// - Parameters:
  ///   - memory: `section.paddedLength` zero bytes on a cache line
  ///   - scales: of the head's rows so far
  /// - Throws: `ModelError` naming the tensor that is wrong
  func convert(
    _ section: OtherLayout.Section, of others: OtherLayout, into memory: UnsafeMutableRawPointer, scales: inout [Float]
  ) throws {
    let config = base.config
    switch section.content {
    case .norm(let key, let size):
      let change = try normChange(key, size: size)
      memory.copyMemory(from: change, byteCount: size * 4)
    case .factors(.embedding):
      guard let rank = reader.others.embedding.factors?.rank else { return }
      let a = try reader.weights.read(PEFTTensorName.name(.embedding, .a), shape: [rank, config.vocabularySize])
      let b = try reader.weights.read(PEFTTensorName.name(.embedding, .b), shape: [config.hiddenSize, rank])
      let out = memory.assumingMemoryBound(to: Float.self)
      for token in 0..<config.vocabularySize {
        for r in 0..<rank { out[token * rank + r] = a[r * config.vocabularySize + token] }
      }
      let outB = out + config.vocabularySize * rank
      for i in 0..<config.hiddenSize { for r in 0..<rank { outB[r * config.hiddenSize + i] = b[i * rank + r] } }
    case .factors(.head):
      guard let table = reader.others.head.factors, let parts = others.headFactors else { return }
      try convertHead(table, parts, into: memory)
    case .tokens(.embedding):
      memory.copyMemory(from: tables.embedding.map { Int32($0.id) }, byteCount: section.length)
    case .tokens(.head):
      memory.copyMemory(from: tables.head.map { Int32($0.id) }, byteCount: section.length)
    case .rows(.embedding, let range):
      let out = memory.assumingMemoryBound(to: Float.self), half = memory.assumingMemoryBound(to: UInt16.self)
      for (row, index) in range.enumerated() {
        let difference = try tables.difference(.embedding, index)
        for (column, value) in difference.enumerated() {
          let place = row * config.hiddenSize + column
          if others.element == .f32 { out[place] = value } else { half[place] = LowRankFactors.bf16(value) }
        }
      }
    case .rows(.head, let range): try convertHeadRows(range, block: others.headBlock, into: memory, scales: &scales)
    case .headScales:
      let (values, exponent) = HalfScale.round(scales)
      memory.storeBytes(of: Int32(exponent), as: Int32.self)
      memory.advanced(by: LowRankLayout.aligned(4)).copyMemory(from: values, byteCount: values.count * 2)
    }
  }

  // MARK: projections and the head

  private struct Factors {
    let a: [Float]
    let b: [Float]
    let magnitude: [Float]?
    let rank: Int
    let scale: Float
  }

  private func pack(
    _ factors: Factors, _ parts: AdapterLayout.FactorParts, _ matrix: Matrix, firstRow: Int, name: String,
    into memory: UnsafeMutableRawPointer
  ) throws {
    // Rounding to bf16 would make the largest numbers of f32 infinite.
    let largest = Float(bitPattern: 0x7F7F_7FFF)
    if layout.element == .bf16 {
      for values in [factors.a, factors.b]
      where !Compute.allMagnitudes(of: values, count: values.count, areAtMost: largest) {
        throw ModelError(reader.weights.subject, name, reason: "its values are too large for bf16")
      }
    }
    parts.factors.packA(factors.a, into: memory + parts.a)
    parts.factors.packB(factors.b, into: memory + parts.b)
    guard let offset = parts.rowFactors, let magnitude = factors.magnitude else { return }
    let rows = compute.rowFactors(
      matrix, rows: firstRow..<firstRow + magnitude.count, a: factors.a, b: factors.b, rank: factors.rank,
      scale: factors.scale, magnitude: magnitude)
    guard Compute.allMagnitudes(of: rows, count: rows.count, areAtMost: .greatestFiniteMagnitude) else {
      throw ModelError(
        reader.weights.subject, name, reason: "its magnitudes are too large for the base's rows")
    }
    parts.factors.packRowFactors(rows, into: memory + offset)
  }

  private func convertHead(
    _ table: PEFTTargets.Table, _ parts: AdapterLayout.FactorParts, into memory: UnsafeMutableRawPointer
  ) throws {
    let config = base.config
    func read(_ part: PEFTTensorName.Part, _ shape: [Int]) throws -> [Float] {
      try reader.weights.read(PEFTTensorName.name(.head, part), shape: shape)
    }
    let magnitude = parts.rowFactors == nil ? nil : try read(.magnitude, [config.vocabularySize])
    let factors = Factors(
      a: try read(.a, [table.rank, config.hiddenSize]), b: try read(.b, [config.vocabularySize, table.rank]),
      magnitude: magnitude, rank: table.rank, scale: table.scale)
    guard magnitude == nil || tables.head.isEmpty else {
      throw ModelError(
        reader.weights.subject, "lm_head", reason: "DoRA on a head that differs from the base's is not supported")
    }
    try pack(factors, parts, base.exactHead ?? base.head, firstRow: 0, name: "lm_head", into: memory)
    guard let offset = parts.bias,
      let bias = try reader.loraBias("lm_head", outputs: config.vocabularySize)?.map({ table.scale * $0 })
    else { return }
    memory.advanced(by: offset).copyMemory(from: bias, byteCount: bias.count * 4)
  }

  /// Everything that is added to a projection's outputs whatever the input is.
  private func biasChange(_ change: PEFTReader.ProjectionChange, _ outputs: Int, lora: [Float]) throws -> [Float] {
    var sum = lora.isEmpty ? [Float](repeating: 0, count: outputs) : lora
    let stack = base.layers[change.layer][change.projection.stack]
    guard base.config.architecture.biases.contains(change.projection),
      let own = stack.bias.map({ $0 + stack.offset(change.projection) })
    else { return sum }
    if let name = change.bias {
      let saved = try reader.weights.read(name, shape: [outputs])
      for i in 0..<outputs { sum[i] += saved[i] - own[i] }
    }
    if change.scalesInput == false {
      let factors = try reader.scaling(change)
      for i in 0..<outputs { sum[i] += (factors[i] - 1) * own[i] }
    }
    return sum
  }

  // MARK: norms and tables

  private func normChange(_ key: OtherChanges.NormKey, size: Int) throws -> [Float] {
    let own = key.layer.map { base.layers[$0][key.norm] } ?? base.finalNorm
    guard let norm = reader.others.norms.first(where: { $0.key == key }), let own else {
      let name = key.layer.map { "the norm \(key.norm) of layer \($0)" } ?? "the last norm"
      throw ModelError(reader.weights.subject, name, reason: "is not in both the adapter and the base")
    }
    let missing = base.config.architecture.normOffset ?? 0
    return try reader.weights.read(norm.tensor, shape: [size]).enumerated().map { $1 + missing - own[$0] }
  }

  private func convertHeadRows(
    _ range: Range<Int>, block: Int?, into memory: UnsafeMutableRawPointer, scales: inout [Float]
  ) throws {
    let columns = base.config.hiddenSize
    let groupSize = columns * tileLanes
    for first in stride(from: range.lowerBound, to: range.upperBound, by: tileLanes) {
      var group = [Float](repeating: 0, count: groupSize)
      for (lane, index) in (first..<min(first + tileLanes, range.upperBound)).enumerated() {
        for (column, value) in try tables.difference(.head, index).enumerated() {
          group[column * tileLanes + lane] = value
        }
      }
      let offset = (first - range.lowerBound) / tileLanes * groupSize
      guard let block else {
        memory.advanced(by: offset * 4).copyMemory(from: group, byteCount: groupSize * 4)
        continue
      }
      var groupScales = [Float](repeating: 0, count: columns / block * tileLanes)
      TileLayout.quantizeGroup(
        group, columns: columns, block: block, bytes: memory.advanced(by: offset).assumingMemoryBound(to: Int8.self),
        scale: &groupScales)
      scales += groupScales
    }
  }
}
