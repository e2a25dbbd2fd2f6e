import Foundation
import Model
import Train

/// The end of a training run in words: losses, whether it overfits, and what can be done with the adapter.
struct TrainingSummary {
  let history: LossHistory
  /// The share of right tokens in the last step and in the last validation, if there was one.
  let trainAccuracy: Double?
  let validationAccuracy: Double?

  /// A validation loss that has risen by this factor above its lowest value means overfitting.
  private static let riseOfOverfitting = 1.03
  /// A training loss that low means that the rows are nearly known by heart.
  private static let memorized = 0.05

  var lines: [String] {
    var lines: [String] = []
    if let first = history.means.first, let last = history.means.last {
      lines.append("training loss    " + Self.change(first, last) + Self.percent(trainAccuracy))
    }
    if let first = history.validations.first, let last = history.validations.last {
      lines.append("validation loss  " + Self.change(first.loss, last.loss) + Self.percent(validationAccuracy))
    }
    return lines + [hint].compactMap(\.self)
  }

  /// Whether the run overfits, and what helps; `nil` if nothing is to be said.
  var hint: String? {
    let validations = history.validations
    if let best = validations.min(by: { $0.loss < $1.loss }), let last = validations.last {
      guard last.loss > best.loss * Self.riseOfOverfitting else { return nil }
      return String(
        format: "overfitting: the validation loss was lowest (%.4f) after step %d and is %.4f now; ", best.loss,
        best.step, last.loss)
        + "try --early-stopping-patience 2, fewer --n-epochs, a lower --learning-rate or more data"
    }
    guard let last = history.means.last, last < Self.memorized else {
      return "no rows were held out: --validation-split 0.1 shows whether the adapter overfits"
    }
    return String(
      format: "possible overfitting: the training loss is %.4f, so the rows are nearly known by heart; ", last)
      + "--validation-split 0.1 shows whether others get better, too"
  }

  private static func change(_ first: Double, _ last: Double) -> String {
    String(format: "%.4f → %.4f", first, last)
  }

  private static func percent(_ accuracy: Double?) -> String {
    accuracy.map { String(format: ", %.0f %% of the tokens right", $0 * 100) } ?? ""
  }

  /// The commands that serve and try an adapter.
  /// - Parameters:
  ///   - folder: the adapter's
  ///   - model: as it was given
  ///   - settings: further options that all commands need, such as "--data-dir DIR"
  static func commands(folder: URL, model: String, settings: [String]) -> [String] {
    let name = adapterName(folder)
    let common = (["--model", quoted(model)] + settings.map(quoted)).joined(separator: " ")
    let path = quoted(folder.path)
    return [
      "try it:              graft chat \(common) --adapter \(path)",
      "to a running server: graft adapters load \(name) \(path) --url http://127.0.0.1:8080",
      "to a new server:     graft adapters load \(name) \(path) \(common)",
      "                     graft serve \(common)",
      "then:                curl 'localhost:8080/v1/chat/completions?adapter=\(name)' "
        + #"-d '{"messages": [{"role": "user", "content": "Hello!"}]}'"#,
    ]
  }

  /// The folder's name, if requests can use it, or one made of it.
  static func adapterName(_ folder: URL) -> String {
    let name = folder.lastPathComponent
    if AdapterName.problem(name) == nil { return name }
    let made =
      "a-"
      + name.unicodeScalars.map { scalar in
        scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)) ? String(scalar) : "-"
      }.joined() + "-a"
    return AdapterName.problem(made) == nil ? made : "adapter"
  }

  /// A word for a shell.
  static func quoted(_ word: String) -> String {
    let isPlain =
      !word.isEmpty
      && word.unicodeScalars.allSatisfy { scalar in
        scalar.isASCII && (scalar.properties.isAlphabetic || "0123456789._/:@%+=,-".unicodeScalars.contains(scalar))
      }
    return isPlain ? word : "'" + word.replacingOccurrences(of: "'", with: #"'\''"#) + "'"
  }
}
