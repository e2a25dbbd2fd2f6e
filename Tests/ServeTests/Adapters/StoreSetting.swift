import Foundation
import Kernels
import Model
import Synchronization
import TestSupport

@testable import Serve

/// A tiny model with a data folder, on which stores are opened one after the other as a server's restarts would.
final class StoreSetting {
  let model: TinyModel
  let base: Base
  /// How many adapters were read.
  private let reads = Mutex(0)
  var readCount: Int { reads.withLock { $0 } }
  var dataURL: URL { model.root.appending(path: "data") }
  var contentsURL: URL { dataURL.appending(path: "adapters") }

  init() throws {
    model = try TinyModel(TinyShape(layers: 1))
    base = try model.base()
  }

  func open(
    memory: Int = 1 << 20, versionsKept: Int = 5, sizeLimit: Int = 1 << 20, fingerprint: String = "base-one",
    hasFolder: Bool = true, gate: DispatchSemaphore? = nil
  ) throws -> AdapterStore {
    // The loader's thread may hold the store before for a moment longer.
    var held: DataFolder?
    _ = eventually {
      held = try? DataFolder(dataURL)
      return held != nil
    }
    let folder = if let held { held } else { try DataFolder(dataURL) }
    let base = base
    // The setting outlives its stores.
    nonisolated(unsafe) let setting = self
    return try AdapterStore(
      dataFolder: folder, database: try MetadataDatabase(folder),
      binding: .init(fingerprint: fingerprint) { url in
        gate?.wait()
        setting.reads.withLock { $0 += 1 }
        return try Adapter(peft: url, base: base, mode: .f32)
      },
      folder: hasFolder ? model.adaptersFolder : nil,
      settings: .init(
        memory: memory, versionsKept: versionsKept, sizeLimit: sizeLimit, reservedNames: ["tiny"],
        patience: .milliseconds(200)))
  }

  @discardableResult
  func write(_ name: String, rank: Int = 4, seed: UInt64 = 1, in parent: URL? = nil) throws -> URL {
    try model.writeAdapter(name, ranks: [.q: rank], seed: seed, in: parent).folder
  }

  /// Hashes of the contents in the data folder.
  var stored: Set<String> {
    Set((try? FileManager.default.contentsOfDirectory(atPath: contentsURL.path)) ?? [])
  }

  /// Bytes in memory of what `write` makes with its default rank.
  static let adapterBytes = 4 * (4 * 96 + 96 * 4) + 64
}

extension AdapterStore {
  func adapter(_ name: String, version: Int? = nil) throws(AdapterError) -> Adapter {
    try acquireWaiting([AdapterReference(name: name, version: version)])[0]
  }
}

func failure(_ body: () throws -> Void) -> AdapterError? {
  do {
    try body()
    return nil
  } catch { return error as? AdapterError }
}

/// Whether it becomes true before patience runs out.
func eventually(_ condition: () -> Bool) -> Bool {
  let deadline = ContinuousClock.now + .seconds(30)
  while ContinuousClock.now < deadline {
    if condition() { return true }
    usleep(1000)
  }
  return condition()
}
