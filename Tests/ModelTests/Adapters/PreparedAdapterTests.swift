import Formats
import Foundation
import TestSupport
import Testing

@testable import Kernels
@testable import Model

/// An adapter out of its prepared file against the same one converted in memory, and what becomes of damaged files.
@Suite struct PreparedAdapterTests {
  private let hash = String(repeating: "5", count: 64)

  /// Everything that the kernels read, and the scales.
  private func contents(_ adapter: Adapter, _ config: ModelConfig) -> [[UInt8]] {
    var parts: [[UInt8]] = []
    for layer in 0..<config.layerCount {
      for projection in Projection.separate {
        guard let module = adapter[layer, projection] else { continue }
        let (factors, layout) = (module.factors, module.factors.layout)
        parts.append(withUnsafeBytes(of: module.scale, Array.init))
        parts.append(Array(UnsafeRawBufferPointer(start: factors.a, count: layout.aBytes)))
        parts.append(Array(UnsafeRawBufferPointer(start: factors.b, count: layout.bBytes)))
        if let rowFactors = factors.rowFactors {
          parts.append(Array(UnsafeRawBufferPointer(start: rowFactors, count: layout.rowFactorBytes)))
        }
      }
    }
    return parts
  }

  /// Ranks 1 to 70, ten adapters of seven modules, over columns that are odd, even, and multiples of 64.
  @Test(arguments: [(ComputeMode.f32, false), (.f32, true), (.fast, false), (.fast, true)], [97, 96, 64])
  func mappedEqualsConverted(mode: (element: ComputeMode, usesDoRA: Bool), hidden: Int) throws {
    let model = try TinyModel(TinyShape(hidden: hidden, intermediate: 2 * hidden - 1, layers: 1))
    let base = try model.base()
    let preparer = AdapterPreparer(base: base, mode: mode.element)
    for first in 0..<10 {
      let ranks = Projection.separate.map { ($0, 1 + first * 7 + $0.index) }
      let folder = try model.writeAdapter(
        "a\(first)", ranks: Dictionary(uniqueKeysWithValues: ranks), seed: UInt64(first), usesDoRA: mode.usesDoRA
      ).folder
      let converted = try Adapter(peft: folder, hash: hash, base: base, mode: mode.element)
      #expect(try preparer.map(folder, hash: hash) == nil)
      let (prepared, failure) = try preparer.prepare(folder, hash: hash)
      #expect(failure == nil)
      let mapped = try #require(try preparer.map(folder, hash: hash))
      for adapter in [prepared, mapped] {
        #expect(contents(adapter, base.config) == contents(converted, base.config), "\(first)")
        #expect(adapter.bytes == converted.bytes && adapter.contentHash == hash && adapter.rank == converted.rank)
        #expect(adapter.projections == Projection.separate)
      }
      #expect((mapped[0, .q]?.factors.rowFactors != nil) == mode.usesDoRA)
    }
  }

  @Test func partsLieInTheOrderOfAForwardPass() throws {
    let model = try TinyModel()
    let base = try model.base()
    let ranks = Dictionary(uniqueKeysWithValues: Projection.separate.map { ($0, 3) })
    let folder = try model.writeAdapter("a", ranks: ranks, seed: 1, usesDoRA: true).folder
    let adapter = try AdapterPreparer(base: base, mode: .fast).prepare(folder, hash: hash).adapter
    var places: [Int] = []
    for layer in 0..<2 {
      for stack in ProjectionStack.allCases.map({ $0.projections(base.config) }) {
        let factors = stack.compactMap { adapter[layer, $0]?.factors }
        places += factors.map { Int(bitPattern: $0.a) } + factors.map { Int(bitPattern: $0.b) }
        places += factors.map { Int(bitPattern: $0.rowFactors) }
      }
    }
    #expect(places.count == 2 * 7 * 3 && places == places.sorted() && places.allSatisfy { $0 % 64 == 0 })
  }

  /// A small adapter's prepared file.
  private struct Setting {
    let model: TinyModel
    let base: Base
    let preparer: AdapterPreparer
    let folder: URL
    var file: URL { preparer.location(in: folder) }

    init(usesDoRA: Bool = false) throws {
      model = try TinyModel(TinyShape(layers: 2))
      base = try model.base()
      preparer = AdapterPreparer(base: base, mode: .fast)
      folder = try model.writeAdapter("a", ranks: [.q: 3, .down: 1], seed: 1, usesDoRA: usesDoRA).folder
    }
  }

  @Test func itOutlivesItsFileAndHoldsNoDescriptor() throws {
    let setting = try Setting()
    let adapter = try setting.preparer.prepare(setting.folder, hash: hash).adapter
    let before = contents(adapter, setting.base.config)
    let descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
    let open = descriptors.compactMap {
      try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")
    }
    #expect(!open.isEmpty && !open.contains { $0.hasSuffix(setting.file.path) })
    // To its end: the system gives a page of it at a time.
    let maps = try FileHandle(forReadingFrom: URL(filePath: "/proc/self/maps")).readToEnd() ?? Data()
    #expect(String(decoding: maps, as: UTF8.self).contains(setting.file.path))
    try FileManager.default.removeItem(at: setting.folder)
    #expect(contents(adapter, setting.base.config) == before)
  }

  @Test func whereNothingCanBeWrittenItHasMemoryOfItsOwn() throws {
    let setting = try Setting()
    let converted = try Adapter(peft: setting.folder, hash: hash, base: setting.base, mode: .fast)
    try FileManager.default.createDirectory(at: setting.file, withIntermediateDirectories: true)
    #expect(modelError { _ = try setting.preparer.map(setting.folder, hash: hash) }.contains("regular file"))
    let (adapter, failure) = try setting.preparer.prepare(setting.folder, hash: hash)
    #expect(failure != nil)
    #expect(contents(adapter, setting.base.config) == contents(converted, setting.base.config))
    let names = try FileManager.default.contentsOfDirectory(atPath: setting.folder.path)
    #expect(names.count == 3 && !names.contains { $0.hasPrefix(".") }, "\(names)")
  }

  @Test func anAdapterThatIsWrongIsRefusedAndLeavesNothing() throws {
    let setting = try Setting()
    let weights = setting.folder.appending(path: "adapter_model.safetensors")
    var data = try Data(contentsOf: weights)
    data.replaceSubrange(data.count - 4..<data.count, with: withUnsafeBytes(of: Float.nan, Array.init))
    try data.write(to: weights)
    #expect(modelError { _ = try setting.preparer.prepare(setting.folder, hash: hash) }.contains("not finite"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: setting.folder.path).count == 2)
  }

  // MARK: damage

  /// Maps the file with other bytes in it: what it was is all that may come out, else a `ModelError`.
  private func expectRefusedOrEqual(_ bytes: [UInt8], _ setting: Setting, _ wanted: [[UInt8]], _ what: String) throws {
    let url = try TemporaryFolder.overwrite(setting.file, bytes)
    do {
      guard let adapter = try setting.preparer.map(setting.folder, hash: hash) else {
        Issue.record("\(what): \(url.path) is not there")
        return
      }
      #expect(contents(adapter, setting.base.config) == wanted, "\(what)")
    } catch is ModelError {}
  }

  @Test(arguments: [false, true])
  func damageIsFoundWhereverItIs(usesDoRA: Bool) throws {
    let setting = try Setting(usesDoRA: usesDoRA)
    let wanted = contents(
      try setting.preparer.prepare(setting.folder, hash: hash).adapter, setting.base.config)
    let bytes = [UInt8](try Data(contentsOf: setting.file))
    let length = Int(bytes[8]) | Int(bytes[9]) << 8
    let front = 16 + length + HeaderCodec.checksumLength
    let start = LowRankLayout.aligned(front)
    var random = TinyRandom(seed: 7)
    let places = (0..<200).map { _ in Int.random(in: start..<bytes.count, using: &random) }
    for place in Array(0...start) + [bytes.count - 1] + places {
      var damaged = bytes
      damaged[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      try expectRefusedOrEqual(damaged, setting, wanted, "byte \(place)")
      if !(front..<start).contains(place) {
        #expect(throws: ModelError.self, "byte \(place)") { try setting.preparer.map(setting.folder, hash: hash) }
      }
    }
    for count in [0, 1, 8, 15, 16, 17, front - 1, front, start, start + 1, bytes.count - 1] {
      try expectRefusedOrEqual(Array(bytes[..<count]), setting, wanted, "\(count) bytes")
      #expect(throws: ModelError.self) { try setting.preparer.map(setting.folder, hash: hash) }
    }
    for _ in 0..<3000 { try expectRefusedOrEqual(mutated(bytes, using: &random), setting, wanted, "random") }
  }

  /// Headers whose own checksum is right, as no accident makes them.
  @Test func headersThatLieAreRefused() throws {
    let setting = try Setting()
    let adapter = try setting.preparer.prepare(setting.folder, hash: hash).adapter
    let wanted = contents(adapter, setting.base.config)
    let file = try MappedFile(setting.file)
    let codec = PreparedAdapterHeader.codec
    let (header, length) = try codec.decode(PreparedAdapterHeader.self, of: file)
    let data = try file.read(offset: LowRankLayout.aligned(length), count: file.count - LowRankLayout.aligned(length))
    func bytes(_ front: [UInt8]) -> [UInt8] {
      front + [UInt8](repeating: 0, count: LowRankLayout.aligned(front.count) - front.count) + data
    }
    try expectRefusedOrEqual(bytes(try codec.encode(header)), setting, wanted, "as it was")
    _ = try #require(try setting.preparer.map(setting.folder, hash: hash))

    func module(layer: Int = 0, _ projection: Projection = .q, rank: Int = 3, scale: Float = 1) -> AdapterLayout.Entry {
      AdapterLayout.Entry(layer: layer, projection: projection, rank: rank, scale: scale)
    }
    let other = String(repeating: "6", count: 64)
    let lies: [(inout PreparedAdapterHeader) -> Void] = [
      { $0.contents = other }, { $0.base = other }, { $0.element = "f32" }, { $0.element = "" },
      { $0.usesDoRA.toggle() }, { $0.checksum = other }, { $0.entries = [] }, { $0.entries.reverse() },
      { $0.entries.append($0.entries[3]) }, { $0.entries.removeLast() }, { $0.entries[0] = module(rank: 0) },
      { $0.entries[0] = module(rank: -1) }, { $0.entries[0] = module(rank: 4) }, { $0.entries[0] = module(rank: 513) },
      { $0.entries[0] = module(rank: .max) }, { $0.entries[3] = module(layer: 2, .down) },
      { $0.entries[3] = module(layer: .max, .down) }, { $0.entries[0] = module(layer: -1) },
      { $0.entries[0] = module(layer: .min) }, { $0.entries[0] = module(scale: .nan) },
      { $0.entries[0] = module(scale: .infinity) }, { $0.entries[0] = module(.gate) },
    ]
    for (index, lie) in lies.enumerated() {
      var lying = header
      lie(&lying)
      try #require(lying != header)
      _ = try TemporaryFolder.overwrite(setting.file, bytes(try codec.encode(lying)))
      #expect(throws: ModelError.self, "\(index)") { try setting.preparer.map(setting.folder, hash: hash) }
    }
    // Random changes of the text under a right checksum: no crash, whatever comes out.
    let text = Array(try codec.encode(header)[16..<(length - HeaderCodec.checksumLength)])
    var random = TinyRandom(seed: 8)
    var refused = 0
    for _ in 0..<3000 {
      let changed = mutated(text, using: &random)
      var head = Array(codec.magic.utf8)
      withUnsafeBytes(of: UInt32(changed.count).littleEndian) { head += $0 }
      withUnsafeBytes(of: UInt32(codec.version).littleEndian) { head += $0 }
      head += changed + changed.withUnsafeBytes { Array(Checksum.of($0).utf8) }
      _ = try TemporaryFolder.overwrite(setting.file, bytes(head))
      do { _ = try setting.preparer.map(setting.folder, hash: hash) } catch is ModelError { refused += 1 }
    }
    #expect(refused > 2500)
  }

  @Test func anotherModeBaseOrAdapterHasAFileOfItsOwn() throws {
    let setting = try Setting()
    _ = try setting.preparer.prepare(setting.folder, hash: hash)
    #expect(try AdapterPreparer(base: setting.base, mode: .f32).map(setting.folder, hash: hash) == nil)
    #expect(try AdapterPreparer(base: setting.base, mode: .bf16).map(setting.folder, hash: hash) != nil)
    let another = try TinyModel(TinyShape(layers: 2), seed: 2)
    #expect(try AdapterPreparer(base: try another.base(), mode: .fast).map(setting.folder, hash: hash) == nil)
    let wrong = modelError {
      _ = try setting.preparer.map(setting.folder, hash: String(repeating: "6", count: 64))
    }
    #expect(wrong.contains("another adapter"))
  }
}
