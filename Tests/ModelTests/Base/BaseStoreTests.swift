import Formats
import Foundation
import Kernels
import Synchronization
import TestSupport
import Testing

@testable import Model

@Suite struct BaseStoreTests {
  private let model: TinyModel
  private let pool = ThreadPool(threads: 1)

  init() throws { model = try TinyModel(TinyShape(layers: 1)) }

  /// Opens the base; says whether it had to be prepared.
  private func open() throws -> (base: Base, location: URL, isPrepared: Bool) {
    let calls = Mutex(0)
    let (base, location) = try model.store.open(try model.source(), pool: pool) { _ in calls.withLock { $0 += 1 } }
    return (base, location, calls.withLock { $0 > 0 })
  }

  @Test func preparesOnceAndThenReuses() throws {
    let first = try open()
    let second = try open()
    #expect(first.isPrepared && !second.isPrepared)
    #expect(first.location == second.location && first.base.fingerprint == second.base.fingerprint)
    #expect(first.location.path.hasPrefix(model.root.path + "/data/bases/"))
  }

  /// A crash while a base is prepared leaves gigabytes; the next preparation removes them, and no other base's.
  @Test func unfinishedFilesGo() throws {
    let location = try open().location
    let folder = location.deletingLastPathComponent()
    try FileManager.default.removeItem(at: location)
    let left = folder.appending(path: ".\(location.lastPathComponent).a1B2c3")
    let other = folder.appending(path: ".other-v1.graft.a1B2c3")
    for file in [left, other] { try Data(repeating: 0, count: 100).write(to: file) }
    #expect(try open().isPrepared)
    #expect(!FileManager.default.fileExists(atPath: left.path) && FileManager.default.fileExists(atPath: other.path))
  }

  @Test func preparesAgainWhatIsDamaged() throws {
    let first = try open()
    let good = try Data(contentsOf: first.location)
    var bad = good
    bad[5000] ^= 1
    // In place of the mapped file, not into it.
    try bad.write(to: first.location, options: .atomic)
    let second = try open()
    #expect(second.isPrepared && second.base.fingerprint == first.base.fingerprint)
    #expect(try Data(contentsOf: first.location) == good)
    try good.prefix(100).write(to: first.location, options: .atomic)
    #expect(try open().isPrepared)
    #expect(try !open().isPrepared)
  }

  @Test func equalContentsAreReusedWhateverTheirTimes() throws {
    let first = try open()
    let file = model.folder.appending(path: "model.safetensors")
    let contents = try Data(contentsOf: file)
    try contents.write(to: file, options: .atomic)
    try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 5)], ofItemAtPath: file.path)
    let second = try open()
    #expect(!second.isPrepared && second.location == first.location)
  }

  @Test func otherContentsAreAnotherBase() throws {
    let first = try open()
    let name = "model.norm.weight"
    var values = try #require(model.tensors[name]).values
    values[3] += 0.5
    model.setTensor(name, values)
    try model.writeTensors()
    let second = try open()
    #expect(second.isPrepared && second.location != first.location)
    #expect(second.base.fingerprint != first.base.fingerprint)
  }

  @Test func whatIsGoneIsForgotten() throws {
    func remembered() throws -> [String] {
      let index = try Data(contentsOf: model.store.folder.appending(path: "sources.json"))
      return try JSONValue.parse(index, subject: "sources.json").object?.keys ?? []
    }
    let folders = ["first", "second", "third", "fourth"].map { model.root.appending(path: $0) }
    var locations: [URL] = []
    for (index, folder) in folders.enumerated() {
      // As many different bases, from as many folders.
      let name = "model.norm.weight"
      model.setTensor(name, try #require(model.tensors[name]).values.map { $0 + Float(index + 1) })
      try model.writeTensors()
      try FileManager.default.copyItem(at: model.folder, to: folder)
      if index == 3 {
        // The first's source and the second's prepared file.
        try FileManager.default.removeItem(at: folders[0])
        try FileManager.default.removeItem(at: locations[1])
      }
      locations.append(try model.store.open(try openPublishedModel(at: folder), pool: pool).location)
    }
    let paths = try remembered()
    #expect(!paths.isEmpty)
    for (folder, isKept) in zip(folders, [false, false, true, true]) {
      #expect(paths.contains { $0.hasPrefix(folder.standardizedFileURL.path + "/") } == isKept, "\(folder)")
    }
  }

  @Test func aStoppedPreparationLeavesNothing() throws {
    struct Stop: Error {}
    let source = try model.source()
    #expect(throws: Stop.self) {
      try model.store.open(source, pool: pool) { share in if share > 0.5 { throw Stop() } }
    }
    let left = try FileManager.default.contentsOfDirectory(atPath: model.store.folder.path)
    #expect(!left.contains { $0.hasSuffix(".graft") || $0.hasPrefix(".") }, "\(left)")
    #expect(try open().isPrepared)
  }

  @Test func threadsThatOpenTogetherPrepareOnce() throws {
    let store = model.store
    let source = try model.source()
    let prepared = Mutex<Set<Int>>([])
    let fingerprints = Mutex<[String]>([])
    DispatchQueue.concurrentPerform(iterations: 4) { index in
      let opened = try? store.open(source, pool: ThreadPool(threads: 1)) { _ in
        prepared.withLock { _ = $0.insert(index) }
      }
      fingerprints.withLock { $0.append(opened?.base.fingerprint ?? "") }
    }
    #expect(prepared.withLock { $0.count } == 1)
    #expect(Set(fingerprints.withLock { $0 }).count == 1)
    #expect(fingerprints.withLock { $0 }.allSatisfy { $0.count == 64 })
  }
}
