import Formats

/// The runs of a sweep: every combination of the values of some hyperparameters.
struct SweepGrid {
  /// A hyperparameter's name on the wire, with a value as it was typed.
  typealias Setting = (name: String, text: String)

  /// Hyperparameters that can have several values, and what separates these. Targets are lists themselves.
  static let separators: [(name: String, separator: Character)] = [
    ("lora_r", ","), ("lora_alpha", ","), ("lora_dropout", ","), ("learning_rate", ","), ("target_modules", ";"),
  ]
  /// The most runs of a sweep.
  static let limit = 200

  /// Hyperparameters with several values.
  private(set) var axes: [(name: String, values: [String])] = []
  /// The settings of each run: those of the axes first, then those that all runs have.
  private(set) var runs: [[Setting]] = [[]]

  /// - Parameter given: names on the wire with what was typed
  /// - Throws: `HyperparameterError`-like `ModelError` for an empty value, a value that comes twice or too many runs
  init(_ given: [Setting]) throws {
    var common: [Setting] = []
    for (name, text) in given {
      guard let separator = Self.separators.first(where: { $0.name == name })?.separator, text.contains(separator)
      else {
        common.append((name, text))
        continue
      }
      let values = text.split(separator: separator, omittingEmptySubsequences: false).map { $0.trimmed }
      let flag = "--" + name.replacing("_", with: "-")
      guard !values.contains("") else { throw ModelError(flag, reason: "'\(text)' has an empty value") }
      guard Set(values).count == values.count else { throw ModelError(flag, reason: "'\(text)' has a value twice") }
      axes.append((name, values))
    }
    for axis in axes {
      guard runs.count * axis.values.count <= Self.limit else {
        throw ModelError("sweep", reason: "has more than \(Self.limit) runs; give fewer values")
      }
      runs = runs.flatMap { run in axis.values.map { run + [(axis.name, $0)] } }
    }
    runs = runs.map { $0 + common }
  }
}

extension Substring {
  fileprivate var trimmed: String {
    String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }
}
