import Formats
import Testing

@Suite struct JSONNumberTests {
  private static let anyNumber = JSONLimits(allowsAnyNumber: true)

  @Test(arguments: [
    "0", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "12345678901234567890123",
    "0.1234567890123456789", "1.00000000000000000000001e23", "1e400", "-1E-400", "1e-9999999999999999999999",
    "0.30000000000000001", "100000000000000000000000", "1e9223372036854775807", "0.0001e-9223372036854775807",
  ])
  func numbersAreWrittenAsTheyWereRead(_ text: String) throws {
    let value = try JSONValue.parse("[\(text)]".utf8, subject: "text", limits: Self.anyNumber)
    #expect(String(decoding: value.encoded, as: UTF8.self) == "[\(text)]")
    let repeating = try JSONValue.parseKeepingLast("[\(text)]".utf8, subject: "text", limits: Self.anyNumber)
    #expect(repeating == value)
  }

  @Test(arguments: [
    ("0.5", 0.5), ("1e2", 100), ("-0.0", 0), ("0e400", 0), ("0.00000000000000000000", 0), ("0.10000000000000000", 0.1),
    ("1.7976931348623157e308", .greatestFiniteMagnitude), ("5e-324", .leastNonzeroMagnitude), ("1e23", 1e23),
    ("1000000000000000000000000e-2", 1e22), ("0.0001e+4", 1), ("1e0", 1), ("15e0", 15), ("0.5E-00", 0.5),
  ])
  func numbersThatADoubleHoldsAreDoubles(_ text: String, _ number: Double) throws {
    #expect(try JSONValue.parse(text.utf8, subject: "text") == .number(number))
  }

  @Test func otherNumbersHaveTheNearestDouble() throws {
    func double(_ text: String) throws -> Double? {
      try JSONValue.parse(text.utf8, subject: "text", limits: Self.anyNumber).double
    }
    #expect(try double("12345678901234567890123") == Double("12345678901234567890123"))
    #expect(try double("0.1234567890123456789") == 0.12345678901234568)
    #expect(try double("-1e400") == nil)
  }

  @Test func filesHaveNoNumbersBeyondDoubles() {
    #expect(throws: ModelError.self) { try JSONValue.parse("[1e400]".utf8, subject: "file") }
  }
}
