/// The arithmetic of products with the base model's weights.
public enum ComputeMode: String, CaseIterable, Sendable {
  /// 32-bit floats: the reference.
  case f32
  /// Integer products: within a block, activations are rounded to 13-bit and NF4 values to 13-bit signed integers,
  /// whose products are summed exactly. The output head is int8, adapters are bf16, keys and values f16.
  case fast
  /// The same arithmetic as `fast`. Its 16-bit integer products are closer to `f32` than products of bf16 numbers, and
  /// faster on machines without bf16 instructions.
  case bf16

  /// The element type of adapters' factors.
  public var adapterElement: LowRankFactors.Element { self == .f32 ? .f32 : .bf16 }
  /// The element type of the key-value cache.
  public var keyValueElement: KeyValueLayout.Element { self == .f32 ? .f32 : .f16 }
}
