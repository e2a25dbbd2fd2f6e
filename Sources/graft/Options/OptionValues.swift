import ArgumentParser

/// The value of an option that is on or off, and of a flag's environment variable.
enum Switch: String, CaseIterable, ExpressibleByArgument { case on, off }

/// A number of bytes: digits and KiB, MiB or GiB.
struct ByteSize: ExpressibleByArgument {
  let bytes: Int

  init(bytes: Int) { self.bytes = bytes }

  init?(argument: String) {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)]
    let unit = units.first { argument.hasSuffix($0.0) }
    let digits = unit == nil ? Substring(argument) : argument.dropLast(3)
    guard let count = Int(digits), count > 0 else { return nil }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << (unit?.1 ?? 0))
    if overflow { return nil }
    self.bytes = bytes
  }

  var defaultValueDescription: String {
    bytes % (1 << 30) == 0 ? "\(bytes >> 30)GiB" : "\(bytes >> 20)MiB"
  }
}
