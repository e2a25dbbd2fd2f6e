import Formats
public import Foundation

/// Writes an adapter in the forms that other programs read. Every form appears whole or not at all, and nothing that exists
/// is replaced.
public enum AdapterExport {
  /// Copies a PEFT folder's two files.
  /// - Parameter folder: does not exist, or is empty
  /// - Throws: `ModelError` naming what is wrong with the adapter, or the path that cannot be written
  public static func writePEFT(_ adapter: URL, to folder: URL) throws {
    if let problem = PEFTInspection(folder: adapter).problems.first {
      throw ModelError(adapter.lastPathComponent, reason: problem)
    }
    let target = try AtomicFolder(folder)
    for name in AdapterContents.fileNames { try target.copy(adapter.appending(path: name)) }
    try target.finish()
  }

  /// Reads a PEFT folder whose every part is an update of a projection, as other forms have it.
  /// - Throws: `ModelError` naming the part that is wrong, does not fit the base, or is another
  static func reader(_ adapter: URL, config: ModelConfig) throws -> PEFTReader {
    try PEFTReader(folder: adapter, config: config)
  }
}

/// The one scale of a form that has no scale for each update. What an update's own scale differs by goes into its B.
struct CommonScale {
  /// What the form is given.
  let value: Float
  private let own: (TargetedProjection) -> Double

  /// - Parameter own: a projection's own value; it is part of all of the form's values as a factor
  init(_ projections: [TargetedProjection], own: @escaping (TargetedProjection) -> Double) {
    value = projections.lazy.map { Float(own($0)) }.first { $0 != 0 } ?? 1
    self.own = own
  }

  /// B of an update that the form multiplies with the common scale.
  func b(of update: PEFTAdapter.Update, _ target: TargetedProjection) -> [Float] {
    let own = own(target)
    if Float(own) == value { return update.b }
    let factor = Float(own / Double(value))
    return update.b.map { $0 * factor }
  }
}
