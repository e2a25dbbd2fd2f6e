import Formats
import Model

/// What a checkpoint holds besides tensors. Together with the tensors it is everything that the rest of the run depends
/// on: the order of the data, the learning rate and every random number are computed from the seed and the step.
struct TrainerProgress: Equatable {
  /// Optimiser steps made.
  var step = 0
  /// The last step after which everything that was due is done: validation, and the decision to stop early. If a
  /// checkpoint is due after `step` and this is less, the run continues with that work.
  var concludedStep = 0
  /// Tokens of rows that were trained on.
  var tokens = 0
  var bestLoss: Double?
  var bestStep = 0
  /// How many validations followed the best one.
  var stalled = 0
  /// The losses for the run's plot.
  var history = LossHistory()

  var json: JSONValue {
    .object(
      JSONObject(
        keepingFirst: [
          ("step", .integer(step)), ("concluded_step", .integer(concludedStep)), ("tokens", .integer(tokens)),
          ("best_loss", bestLoss.map { .number($0) } ?? .null), ("best_step", .integer(bestStep)),
          ("stalled", .integer(stalled)),
        ] + history.json))
  }

  init() {}

  /// `nil` where something is missing or of a wrong type.
  init?(_ json: JSONValue) {
    guard let object = json.object, let step = object["step"]?.integer, let tokens = object["tokens"]?.integer,
      let bestStep = object["best_step"]?.integer, let stalled = object["stalled"]?.integer, step > 0,
      let history = LossHistory(object, count: step)
    else { return nil }
    self.step = step
    // Earlier builds wrote no checkpoint that had something due.
    concludedStep = object["concluded_step"]?.integer ?? step
    self.tokens = tokens
    self.bestStep = bestStep
    self.stalled = stalled
    self.history = history
    bestLoss = object["best_loss"]?.double
  }
}
