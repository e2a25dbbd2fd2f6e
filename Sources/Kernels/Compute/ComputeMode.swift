/// The arithmetic of products with the base model's weights.
public enum ComputeMode: String, CaseIterable, Sendable {
  /// 32-bit floats: the reference.
  case f32
  /// Quantised products: activations and NF4 values are rounded within each block to 13-bit signed integers, whose products
  /// are summed exactly. The output head is int8, adapters are bf16, keys and values int16.
  case fast
  /// The same as `fast`: integer products are closer to `f32` than products of bf16 numbers, and on machines without bf16
  /// instructions faster.
  case bf16

  /// The element type of adapters' factors.
  public var adapterElement: LowRankFactors.Element { self == .f32 ? .f32 : .bf16 }
  /// The element type of the key-value cache.
  public var keyValueElement: KeyValueLayout.Element { self == .f32 ? .f32 : .int16 }
}
