import Grammars
import Testing

@Suite struct ByteSetTests {
  @Test func setsAreUnitedIntersectedAndInverted() {
    let digits = ByteSet(0x30...0x39)
    let letters = ByteSet("abc".utf8)
    #expect(digits.count == 10 && digits.contains(0x35) && !digits.contains(0x61))
    #expect(digits.union(letters).count == 13)
    #expect(digits.intersection(letters).isEmpty)
    #expect(digits.inverted.count == 246 && digits.inverted.contains(0xFF))
    #expect(ByteSet.all.inverted.isEmpty)
  }
}
