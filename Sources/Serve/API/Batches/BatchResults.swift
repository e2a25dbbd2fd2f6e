import Formats
import Foundation
import Logging

/// Writes the result files of a batch that ends.
struct BatchResults {
  private let batch: Batch
  private let service: BatchService

  init(_ batch: Batch, service: BatchService) {
    self.batch = batch
    self.service = service
  }

  /// Writes the files and ends the batch. If the process ends meanwhile, this is called again, and writes only what is
  /// missing.
  /// - Throws: `ModelError` or `FileStoreError`, for example if the disk is full
  func finish(as status: Batch.Status) throws {
    let database = service.database
    let isExpired = status == .expired
    let counts = try database.resultCounts(ofBatch: batch.id)
    let left = batch.counts.total - counts.completed - counts.failed
    let named = try database.update(batch: batch.id) { batch in
      if counts.completed > 0 { batch.outputFile = batch.outputFile ?? FileStore.makeID() }
      if counts.failed > 0 || isExpired && left > 0 { batch.errorFile = batch.errorFile ?? FileStore.makeID() }
    }
    if let id = named?.outputFile { try write(id, failed: false, name: "output", withUnanswered: false) }
    if let id = named?.errorFile { try write(id, failed: true, name: "error", withUnanswered: isExpired) }
    try database.end(batch: batch.id) { batch in
      batch.counts.completed = counts.completed
      batch.counts.failed = counts.failed + (isExpired ? left : 0)
      batch.enter(status, at: BatchService.now)
    }
    service.forget(batch.id)
    service.logger.info(
      "batch ended",
      metadata: [
        "id": .string(batch.id), "status": .string(status.rawValue), "completed": "\(counts.completed)",
        "failed": "\(counts.failed)",
      ])
  }

  /// - Parameter withUnanswered: whether the lines without a result are added as expired
  private func write(_ id: String, failed: Bool, name: String, withUnanswered: Bool) throws {
    // The record comes last, so a file that has one is complete.
    if (try? service.files.file(id)) != nil { return }
    let file = try AtomicFile(service.files.location(id))
    var bytes = 0
    func append(_ text: [UInt8]) throws {
      bytes += text.count
      try text.withUnsafeBytes { try file.write($0) }
    }
    try service.database.forEachResult(ofBatch: batch.id, failed: failed, append)
    if withUnanswered {
      let answered = try service.database.linesWithResult(ofBatch: batch.id)
      var reader = try BatchReader(service.inputFile(of: batch.id))
      while let (number, text) = try reader.next() {
        guard !answered.contains(number),
          let line = try? BatchLine(text, number: number, endpoint: batch.endpoint)
        else { continue }
        try append(
          BatchLine.unanswered(
            line.customID, code: "batch_expired",
            message: "This request could not be executed before the completion window expired."))
      }
    }
    try file.finish()
    try service.files.add(
      StoredFile(
        id: id, bytes: bytes, createdAt: BatchService.now, filename: "\(batch.id)_\(name).jsonl",
        purpose: "batch_output"))
  }
}
