import Formats
import Foundation
import Kernels
import Logging
import Model
import Synchronization
import TestSupport

@testable import Serve

/// A tiny model with a data folder, on which stores are opened one after the other as a server's restarts would.
final class StoreSetting {
  let model: TinyModel
  private let preparer: CountingPreparer
  /// How many adapters were brought into memory, and how many of them were converted for that.
  var readCount: Int { preparer.counts.withLock { $0.reads } }
  var conversionCount: Int { preparer.counts.withLock { $0.conversions } }
  private let lines = LogLines()
  /// What was logged.
  var log: [String] { lines.all.withLock { $0 } }
  var dataURL: URL { model.root.appending(path: "data") }
  var contentsURL: URL { dataURL.appending(path: "adapters") }

  /// Names of four adapters, for tests of what they do to each other.
  static let four = ["a", "b", "c", "d"]

  /// - Parameter adapters: names of adapters to write, all of one size
  init(adapters: [String] = []) throws {
    model = try TinyModel(TinyShape(layers: 1))
    preparer = CountingPreparer(AdapterPreparer(base: try model.base(), mode: .f32))
    for (seed, name) in adapters.enumerated() { try write(name, seed: UInt64(seed)) }
  }

  func open(_ folder: DataFolder, _ database: MetadataDatabase) throws -> AdapterStore {
    try AdapterStore(
      dataFolder: folder, database: database, binding: .init(fingerprint: "base-one", preparer: preparer),
      folder: model.adaptersFolder)
  }

  func open(
    memory: Int = 1 << 20, versionsKept: Int = 5, sizeLimit: Int = 1 << 20, fingerprint: String = "base-one",
    hasFolder: Bool = true, gate: DispatchSemaphore? = nil,
    patience: Duration = .milliseconds(200)
  ) throws -> AdapterStore {
    let folder = try lockFolder()
    preparer.gate.withLock { $0 = gate }
    return try AdapterStore(
      dataFolder: folder, database: try MetadataDatabase(folder),
      binding: .init(fingerprint: fingerprint, preparer: preparer),
      folder: hasFolder ? model.adaptersFolder : nil,
      settings: .init(
        memory: memory, versionsKept: versionsKept, sizeLimit: sizeLimit, reservedNames: ["tiny"],
        patience: patience),
      logger: Logger(label: "test") { [lines] _ in lines })
  }

  /// The data folder, once nobody else has it: the loader's thread may hold a store for a moment longer.
  func lockFolder() throws -> DataFolder {
    var held: DataFolder?
    _ = eventually {
      held = try? DataFolder(dataURL)
      return held != nil
    }
    return if let held { held } else { try DataFolder(dataURL) }
  }

  @discardableResult
  func write(_ name: String, rank: Int = 4, seed: UInt64 = 1, in parent: URL? = nil) throws -> URL {
    try model.writeAdapter(name, ranks: [.q: rank], seed: seed, in: parent).folder
  }

  /// The prepared file of contents in the data folder.
  func preparedURL(_ hash: String) -> URL { preparer.location(in: contentsURL.appending(path: hash)) }

  /// Hashes of the contents in the data folder.
  var stored: Set<String> {
    Set((try? FileManager.default.contentsOfDirectory(atPath: contentsURL.path)) ?? [])
  }

  /// Bytes in memory of what `write` makes with its default rank.
  static let adapterBytes = 4 * (4 * 96 + 96 * 4) + 64
}

/// Counts what an adapter's preparer does, and has it wait.
private final class CountingPreparer: AdapterPreparing {
  let counts = Mutex((reads: 0, conversions: 0))
  /// Signalled for each adapter that may be mapped.
  let gate = Mutex<DispatchSemaphore?>(nil)
  private let preparer: AdapterPreparer

  init(_ preparer: AdapterPreparer) { self.preparer = preparer }

  var base: Base { preparer.base }

  func location(in folder: URL) -> URL { preparer.location(in: folder) }

  func check(_ folder: URL) throws { try preparer.check(folder) }

  func map(_ folder: URL, hash: String) throws -> Adapter? {
    gate.withLock { $0 }?.wait()
    let adapter = try preparer.map(folder, hash: hash)
    if adapter != nil { counts.withLock { $0.reads += 1 } }
    return adapter
  }

  func prepare(_ folder: URL, hash: String) throws -> (adapter: Adapter, failure: (any Error)?) {
    counts.withLock { ($0.reads, $0.conversions) = ($0.reads + 1, $0.conversions + 1) }
    return try preparer.prepare(folder, hash: hash)
  }
}

/// Keeps each line's metadata.
final class LogLines: LogHandler {
  let all = Mutex<[String]>([])
  var logLevel: Logger.Level {
    get { .trace }
    set {}
  }
  var metadata: Logger.Metadata {
    get { [:] }
    set {}
  }
  subscript(metadataKey _: String) -> Logger.Metadata.Value? {
    get { nil }
    set {}
  }

  func log(event: LogEvent) {
    all.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") }
  }
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
