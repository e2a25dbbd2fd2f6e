import Formats
public import Foundation
import Kernels
import Model

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The checkpoints of a run: folders `checkpoint-N`, where N is the step. Each is a PEFT adapter with the optimiser's
/// moments and the trainer's state beside it. A folder appears under its name complete and synced, or not at all.
struct CheckpointFolder {
  let root: URL

  private static let stateFile = "trainer.json"
  private static let momentsFile = "optimizer.safetensors"
  private static let format = 1
  private static let stateLimit = 256 << 20

  func location(_ step: Int) -> URL { root.appending(path: "checkpoint-\(step)") }

  /// Steps that have a checkpoint, ascending.
  var steps: [Int] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []
    return names.compactMap { name in
      name.hasPrefix("checkpoint-") ? Int(name.dropFirst("checkpoint-".count)).flatMap { $0 > 0 ? $0 : nil } : nil
    }.sorted()
  }

  /// Steps that can be resumed from, ascending.
  var resumableSteps: [Int] {
    steps.filter { FileManager.default.fileExists(atPath: location($0).appending(path: Self.stateFile).path) }
  }

  /// Writes a checkpoint, then deletes what older checkpoints no longer need: their state and moments, or the whole
  /// folder.
  /// - Parameters:
  ///   - identity: the settings, data and base of the run, which must be equal when it is resumed
  ///   - keeping: how many of the newest checkpoints can be resumed from
  ///   - stays: is given all steps that have a checkpoint, and returns those whose adapter is kept
  /// - Throws: `ModelError` naming the file, for example if the disk is full; earlier checkpoints then stay as they
  ///   were
  func write(
    _ adapter: TrainableAdapter, _ progress: TrainerProgress, identity: JSONValue, keeping: Int,
    stays: ([Int]) -> Set<Int>
  ) throws -> URL {
    let target = location(progress.step)
    let partial = root.appending(path: ".checkpoint-\(progress.step).partial")
    let files = FileManager.default
    do {
      try? files.removeItem(at: partial)
      try FolderAccess.create(partial)
      try adapter.write(to: partial)
      try adapter.writeMoments(to: partial.appending(path: Self.momentsFile))
      try AtomicFile.write(Self.state(progress, identity), to: partial.appending(path: Self.stateFile))
      try? files.removeItem(at: target)
      guard rename(partial.path, target.path) == 0 else {
        throw ModelError(target.path, reason: "cannot be written: \(systemMessage(errno))")
      }
      try FolderAccess.sync(root)
    } catch {
      try? files.removeItem(at: partial)
      throw error as? ModelError ?? ModelError(target.path, reason: error.localizedDescription)
    }
    let all = steps
    let (resumable, staying) = (Set(resumableSteps.suffix(max(keeping, 1))), stays(all))
    for step in all where step != progress.step && !resumable.contains(step) {
      // The state is deleted first: a checkpoint without it is never resumed from, so half-deleted moments do no harm.
      try? files.removeItem(at: location(step).appending(path: Self.stateFile))
      try? files.removeItem(at: location(step).appending(path: Self.momentsFile))
      if !staying.contains(step) { try? files.removeItem(at: location(step)) }
    }
    return target
  }

  private static func state(_ progress: TrainerProgress, _ identity: JSONValue) -> [UInt8] {
    let state: JSONValue = ["format": .integer(format), "identity": identity, "progress": progress.json]
    return state.encoded
  }

  /// Replaces the state of an existing checkpoint, after more of the work that is due at its step was done. The adapter
  /// and the moments are the same.
  /// - Throws: `ModelError` naming the file; the earlier state then stays
  func writeState(_ progress: TrainerProgress, identity: JSONValue) throws -> URL {
    let folder = location(progress.step)
    try AtomicFile.write(Self.state(progress, identity), to: folder.appending(path: Self.stateFile))
    return folder
  }

  /// Reads a checkpoint into an adapter of the same run.
  /// - Throws: `ModelError` naming the file that is damaged or the setting that differs
  func read(_ step: Int, into adapter: TrainableAdapter, identity: JSONValue) throws -> TrainerProgress {
    let folder = location(step)
    let url = folder.appending(path: Self.stateFile)
    let size = (try? FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int) ?? nil
    guard let size, size <= Self.stateLimit, let text = try? Data(contentsOf: url) else {
      throw ModelError(url.path, reason: "cannot be read")
    }
    let state = try JSONValue.parse(text, subject: url.path).object
    guard state?["format"]?.integer == Self.format, let progress = state?["progress"].flatMap(TrainerProgress.init)
    else { throw ModelError(url.path, reason: "is no checkpoint of this version") }
    try Self.checkIdentity(state?["identity"]?.object, identity.object, url.path)
    try adapter.readParameters(from: folder)
    try adapter.readMoments(from: folder.appending(path: Self.momentsFile))
    return progress
  }

  private static func checkIdentity(_ stored: JSONObject?, _ wanted: JSONObject?, _ subject: String) throws {
    func check(_ field: String, _ stored: JSONValue?, _ wanted: JSONValue?) throws {
      guard stored?.encoded != wanted?.encoded else { return }
      func text(_ value: JSONValue?) -> String {
        value.map { $0.string ?? String(decoding: $0.encoded, as: UTF8.self) } ?? "not set"
      }
      throw ModelError(
        subject, field, reason: "the run has \(text(stored)), this command \(text(wanted)): both must be the same")
    }
    for (key, value) in wanted?.pairs ?? [] {
      if let inner = value.object, let other = stored?[key]?.object {
        for field in Set(inner.keys).union(other.keys).sorted() { try check(field, other[field], inner[field]) }
      } else {
        try check(key, stored?[key], value)
      }
    }
  }
}

extension TrainableAdapter {
  /// Writes a PEFT folder's two files: adapter_model.safetensors, then adapter_config.json. The folder exists.
  /// - Throws: `ModelError` naming the file
  public func write(to folder: URL) throws {
    let tensors = tensors
    let offsets = Dictionary(tensors.map { ($0.name, $0.offset) }) { first, _ in first }
    try PEFTWriter.write(
      configuration: configuration, tensors: tensors.map { ($0.name, $0.shape) }, to: folder
    ) { name in UnsafePointer(parameter(offsets[name] ?? 0)) }
  }

  func writeMoments(to url: URL) throws {
    let writer = try SafetensorsWriter(
      url, entries: ["mean", "variance"].map { SafetensorsWriter.Entry(name: $0, type: .f32, shape: [count]) })
    for entry in writer.order {
      let source = entry.name == "mean" ? mean : variance
      try writer.append(UnsafeRawBufferPointer(start: source.pointer, count: entry.byteCount))
    }
    try writer.finish()
  }

  /// Reads what `write(to:)` wrote for the same projections.
  func readParameters(from folder: URL) throws {
    let file = try SafetensorsFile(folder.appending(path: PEFTFolder.weightsFile))
    for tensor in tensors { try read(file, tensor.name, tensor.shape, into: parameter(tensor.offset)) }
  }

  func readMoments(from url: URL) throws {
    let file = try SafetensorsFile(url)
    try read(file, "mean", [count], into: mean.pointer)
    try read(file, "variance", [count], into: variance.pointer)
  }

  private func read(
    _ file: SafetensorsFile, _ name: String, _ shape: [Int], into out: UnsafeMutablePointer<Float>
  ) throws {
    let tensor = try file.tensor(name)
    guard tensor.shape == shape else {
      throw ModelError(file.url.path, name, reason: "shape \(tensor.shape) instead of \(shape)")
    }
    let values = try file.floats(name)
    guard values.allSatisfy(\.isFinite) else {
      throw ModelError(file.url.path, name, reason: "has values that are not finite")
    }
    values.withUnsafeBufferPointer { source in
      if let start = source.baseAddress { out.update(from: start, count: values.count) }
    }
  }
}
