import Model

/// A value for each projection of a layer.
struct PerProjection<Value> {
  let queryKeyValue: Value
  let output: Value
  let gateUp: Value
  let down: Value

  init(_ value: (Projection) throws -> Value) rethrows {
    queryKeyValue = try value(.queryKeyValue)
    output = try value(.output)
    gateUp = try value(.gateUp)
    down = try value(.down)
  }

  subscript(projection: Projection) -> Value {
    switch projection {
    case .queryKeyValue: queryKeyValue
    case .output: output
    case .gateUp: gateUp
    case .down: down
    }
  }

  /// In the order of a forward pass.
  var all: [Value] { [queryKeyValue, output, gateUp, down] }
}

extension PerProjection: Sendable where Value: Sendable {}
