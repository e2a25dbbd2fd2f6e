import Formats
import Model

/// The losses of a run, for its plot: every step's at first, then means of 2, 4, 8 … neighbouring steps, so that a
/// checkpoint stays small however long the run is.
public struct LossHistory: Sendable, Equatable {
  /// The loss of one validation.
  public struct Validation: Sendable, Equatable {
    /// Optimiser steps made before it.
    public let step: Int
    /// Mean over all labelled tokens or pairs of the validation data.
    public let loss: Double
  }

  /// The maximum number of `means`, and of `validations`.
  public static let capacity = 4096

  /// How many steps each of `means` averages.
  public private(set) var group = 1
  /// The mean training loss of each group of steps, in order. The newest steps are not in it until their group is full.
  public private(set) var means: [Double] = []
  /// Validation losses, ascending by step: all of them, or every second, fourth and so on once there are too many.
  public private(set) var validations: [Validation] = []
  /// How many steps' losses were added.
  public private(set) var count = 0
  private var openSum = 0.0
  /// Every how many validations one is kept.
  private var validationStride = 1
  private var validationCount = 0

  /// The history of a run before its first step.
  public init() {}

  /// Adds the next step's loss.
  mutating func append(_ loss: Double) {
    count += 1
    openSum += loss
    guard count % group == 0 else { return }
    means.append(openSum / Double(group))
    openSum = 0
    guard means.count == Self.capacity else { return }
    means = stride(from: 0, to: means.count, by: 2).map { (means[$0] + means[$0 + 1]) / 2 }
    group *= 2
  }

  mutating func appendValidation(step: Int, loss: Double) {
    validationCount += 1
    guard (validationCount - 1) % validationStride == 0 else { return }
    validations.append(Validation(step: step, loss: loss))
    guard validations.count == Self.capacity else { return }
    validations = stride(from: 0, to: validations.count, by: 2).map { validations[$0] }
    validationStride *= 2
  }

  /// The fields of a checkpoint's state.
  var json: [(key: String, value: JSONValue)] {
    [
      ("losses", .array(means.map { .number($0) })), ("loss_group", .integer(group)), ("loss_sum", .number(openSum)),
      ("validations", .array(validations.map { [.integer($0.step), .number($0.loss)] })),
      ("validation_stride", .integer(validationStride)), ("validation_count", .integer(validationCount)),
    ]
  }

  /// - Parameter count: steps that were made
  /// - Returns: `nil` where something is missing or of a wrong type
  init?(_ object: JSONObject, count: Int) {
    // Checkpoints of earlier builds have each step's loss and no validations.
    let group = object["loss_group"]?.integer ?? 1
    guard let means = object["losses"]?.array?.compactMap(\.double), group > 0, means.count == count / group else {
      return nil
    }
    self.group = group
    self.means = means
    self.count = count
    openSum = object["loss_sum"]?.double ?? 0
    validations = (object["validations"]?.array ?? []).compactMap { entry in
      guard let pair = entry.array, pair.count == 2, let step = pair[0].integer, let loss = pair[1].double else {
        return nil
      }
      return Validation(step: step, loss: loss)
    }
    validationStride = max(object["validation_stride"]?.integer ?? 1, 1)
    validationCount = object["validation_count"]?.integer ?? validations.count
  }
}
