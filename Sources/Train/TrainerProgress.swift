import Model

/// What a checkpoint holds beside tensors: everything that the rest of the run depends on. The data's position, the
/// learning rate and every random draw follow from the step.
struct TrainerProgress: Equatable {
  /// Optimiser steps made.
  var step = 0
  /// Tokens of rows that were trained on.
  var tokens = 0
  var bestLoss: Double?
  var bestStep = 0
  /// Validations since the best.
  var stalled = 0
  /// Loss of every step, for the plot.
  var losses: [Double] = []

  var json: JSONValue {
    [
      "step": .integer(step), "tokens": .integer(tokens), "best_loss": bestLoss.map { .number($0) } ?? .null,
      "best_step": .integer(bestStep), "stalled": .integer(stalled), "losses": .array(losses.map { .number($0) }),
    ]
  }

  init() {}

  /// `nil` where something is missing or of a wrong type.
  init?(_ json: JSONValue) {
    guard let object = json.object, let step = object["step"]?.integer, let tokens = object["tokens"]?.integer,
      let bestStep = object["best_step"]?.integer, let stalled = object["stalled"]?.integer,
      let losses = object["losses"]?.array?.compactMap(\.double), step > 0, losses.count == step
    else { return nil }
    self.step = step
    self.tokens = tokens
    self.bestStep = bestStep
    self.stalled = stalled
    self.losses = losses
    bestLoss = object["best_loss"]?.double
  }
}
