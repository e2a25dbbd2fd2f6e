public import Formats

/// The weight matrices of a decoder layer, in the order of a forward pass. Projections that read the same input are
/// stacked in one matrix, so that one product computes them all.
public enum ProjectionStack: CaseIterable, Sendable {
  /// q, k and v; o; gate and up; down.
  case queryKeyValue, output, gateUp, down

  /// The projections of the stack, in the order of the matrix's outputs.
  public func projections(_ config: ModelConfig) -> [Projection] { config.projections.filter { $0.stack == self } }
}

extension Projection {
  /// Whether no other projection reads the same input, so that an adapter can change the input for it.
  func isAlone(_ config: ModelConfig) -> Bool { stack.projections(config).count == 1 }

  /// The stack that the projection is part of.
  var stack: ProjectionStack {
    switch self {
    case .q, .k, .v, .queryKeyValue: .queryKeyValue
    case .o: .output
    case .gate, .up, .gateUp: .gateUp
    case .down: .down
    }
  }
}

extension Base.Layer {
  /// The weights of a stack.
  public subscript(stack: ProjectionStack) -> StackedWeights {
    switch stack {
    case .queryKeyValue: queryKeyValue
    case .output: output
    case .gateUp: gateUp
    case .down: down
    }
  }
}
