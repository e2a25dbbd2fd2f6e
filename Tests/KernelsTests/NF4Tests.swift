import Formats
import Foundation
import Kernels
import Model
import Testing

/// Compares with the output of bitsandbytes, which scripts/fixtures/nf4_fixture.py wrote. `GRAFT_NF4_GOLDEN` may name a larger
/// file of the same form.
@Suite struct NF4Tests {
  private func golden() throws -> SafetensorsFile {
    let path = ProcessInfo.processInfo.environment["GRAFT_NF4_GOLDEN"]
    let url =
      path.map { URL(fileURLWithPath: $0) }
      ?? Bundle.module.url(forResource: "nf4", withExtension: "safetensors", subdirectory: "Fixtures")
    return try SafetensorsFile(#require(url))
  }

  private func names(_ file: SafetensorsFile) -> [String] {
    file.tensors.keys.filter { $0.hasSuffix("|f32") }.map { String($0.dropLast(4)) }
  }

  private func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

  @Test func fixtureHoldsWhatIsTested() throws {
    #expect(Set(names(try golden())).isSuperset(of: ["ties", "random"]))
  }

  /// A file can have scales that no quantiser writes.
  @Test func halfScalesStayFinite() {
    let (values, exponent) = HalfScale.round([-1e20, 1, -1e38])
    #expect(values.allSatisfy { Float16(bitPattern: $0).isFinite } && exponent == 112)
  }

  /// The inverse of the step overflows.
  @Test func tinyValuesBecomeZeros() {
    let values = (0..<tileLanes * 8).map { $0 % 7 == 0 ? Float(1e-38) : 0 }
    var bytes = [Int8](repeating: 1, count: values.count)
    var scale = [Float](repeating: 1, count: tileLanes)
    TileLayout.quantizeGroup(values, columns: 8, block: 8, bytes: &bytes, scale: &scale)
    #expect(bytes.allSatisfy { $0 == 0 })
  }

  @Test func quantizesBitForBit() throws {
    let file = try golden()
    for name in names(file) {
      let (packed, absmax) = try NF4.quantize(file.floats("\(name)|f32"))
      #expect(try packed == file.bytes("\(name)|plain.packed"), "\(name)")
      #expect(try bits(absmax) == bits(file.floats("\(name)|plain.absmax")), "\(name)")
    }
  }

  @Test func dequantizesBitForBit() throws {
    let file = try golden()
    for name in names(file) {
      let expected = try file.floats("\(name)|plain.dequantized")
      let values = try NF4.dequantize(
        packed: file.bytes("\(name)|plain.packed"), absmax: file.floats("\(name)|plain.absmax"), count: expected.count)
      #expect(bits(values) == bits(expected), "\(name)")
    }
  }

  @Test func dynamicMapIsBitForBit() throws {
    #expect(try bits(DynamicMap.signed) == bits(golden().floats("ties|dq.nested_map")))
  }

  @Test func decodesDoubleQuantizedScales() throws {
    let file = try golden()
    for name in names(file) {
      let expected = try file.floats("\(name)|dq.absmax")
      let scales = try DoubleQuantizedAbsmax(
        codes: file.bytes("\(name)|dq.absmax_q"), nestedAbsmax: file.floats("\(name)|dq.nested_absmax"),
        map: file.floats("\(name)|dq.nested_map"), blockSize: 256, offset: file.floats("\(name)|dq.offset")[0])
      for (value, wanted) in zip(scales.decoded(), expected) {
        #expect(abs(value - wanted) <= 1e-6 * max(abs(wanted), abs(scales.offset)), "\(name)")
      }
    }
  }

  @Test func encodesDoubleQuantizedScales() throws {
    let file = try golden()
    // The mean that a slice was quantised with is unknown. The scales of `ties` differ by rounding alone, so their codes are
    // noise.
    for name in names(file) where !name.hasSuffix("slice") && name != "ties" {
      let scales = try DoubleQuantizedAbsmax(encoding: file.floats("\(name)|plain.absmax"))
      let expected = try file.bytes("\(name)|dq.absmax_q")
      let differing = zip(scales.codes, expected).filter { $0 != $1 }
      #expect(differing.count <= max(2, expected.count / 250), "\(name)")
      #expect(differing.allSatisfy { abs(Int($0) - Int($1)) == 1 }, "\(name)")
      #expect(try abs(scales.offset - file.floats("\(name)|dq.offset")[0]) <= 1e-6 * abs(scales.offset))
    }
  }

  @Test func dequantizesAnyRange() throws {
    let values = (0..<1000).map { Float(($0 * 7919) % 1013) / 500 - 1 }
    let (packed, absmax) = try NF4.quantize(values)
    let whole = NF4.dequantize(packed: packed, absmax: absmax, count: 1000)
    for range in [0..<1, 1..<2, 63..<65, 127..<999, 999..<1000, 5..<5] {
      var part = [Float](repeating: .nan, count: range.count)
      part.withUnsafeMutableBufferPointer { part in
        packed.withUnsafeBufferPointer { packed in
          absmax.withUnsafeBufferPointer { absmax in
            NF4.dequantize(packed: packed, absmax: absmax, elements: range, into: part)
          }
        }
      }
      #expect(part == Array(whole[range]))
    }
  }

  /// The expected code is the nearest value, found by comparing one element at a time with every midpoint.
  @Test(arguments: [1, 2, 63, 64, 65, 100, 129, 1000]) func agreesWithOneElementAtATime(count: Int) throws {
    var state = UInt64(count)
    let values = (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(Int64(bitPattern: state) >> 40) / 1000
    }
    let (packed, absmax) = try NF4.quantize(values)
    for (index, value) in values.enumerated() {
      let block = index / 64
      let isPartial = (block + 1) * 64 > count
      let largest = values[(block * 64)..<min(count, block * 64 + 64)].map(abs).max() ?? 0
      #expect(absmax[block] == largest)
      let scaled = isPartial ? value / largest : value * (1 / largest)
      let code = zip(NF4.values, NF4.values.dropFirst()).filter { scaled > ($0 + $1) / 2 }.count
      #expect(Int(index % 2 == 0 ? packed[index / 2] >> 4 : packed[index / 2] & 15) == code)
    }
    if count % 2 == 1 { #expect(packed.last.map { $0 & 15 } == 7) }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity, .signalingNaN]) func refusesWhatIsNotFinite(value: Float) {
    for index in [0, 5, 63, 64, 70] {
      var values = [Float](repeating: 1, count: 71)
      values[index] = value
      #expect(throws: NF4Error.notFinite(index: index)) { try NF4.quantize(values) }
    }
  }

  @Test func zeroAndTinyBlocks() throws {
    let tiny = [Float](repeating: Float(bitPattern: 700), count: 64)
    let (packed, absmax) = try NF4.quantize([Float](repeating: 0, count: 64) + tiny)
    #expect(packed == [UInt8](repeating: 0x77, count: 64))
    #expect(absmax == [0, Float(bitPattern: 700)])
  }
}
