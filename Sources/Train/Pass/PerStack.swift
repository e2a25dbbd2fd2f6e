import Model

/// A value for each `ProjectionStack` of a layer.
struct PerStack<Value> {
  let queryKeyValue: Value
  let output: Value
  let gateUp: Value
  let down: Value

  init(_ value: (ProjectionStack) throws -> Value) rethrows {
    queryKeyValue = try value(.queryKeyValue)
    output = try value(.output)
    gateUp = try value(.gateUp)
    down = try value(.down)
  }

  subscript(stack: ProjectionStack) -> Value {
    switch stack {
    case .queryKeyValue: queryKeyValue
    case .output: output
    case .gateUp: gateUp
    case .down: down
    }
  }

  /// In the order of a forward pass.
  var all: [Value] { [queryKeyValue, output, gateUp, down] }
}

extension PerStack: Sendable where Value: Sendable {}
