public import Formats

/// The weight matrices of a decoder layer, in the order of a forward pass. Modules that read the same input are stacked
/// in one matrix, so that one product computes them all.
public enum Projection: CaseIterable, Sendable {
  case queryKeyValue, output, gateUp, down

  /// The modules of the stack, in the order of the matrix's outputs.
  public var modules: [LinearModule] {
    switch self {
    case .queryKeyValue: [.q, .k, .v]
    case .output: [.o]
    case .gateUp: [.gate, .up]
    case .down: [.down]
    }
  }
}

extension Base.LayerWeights {
  /// The matrix of a projection.
  public subscript(projection: Projection) -> StackedLinear {
    switch projection {
    case .queryKeyValue: queryKeyValue
    case .output: output
    case .gateUp: gateUp
    case .down: down
    }
  }
}
