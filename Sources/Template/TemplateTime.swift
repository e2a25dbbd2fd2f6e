/// The date and time that `strftime_now` prints, in the caller's choice of time zone.
public struct TemplateTime: Equatable, Sendable {
  /// The year of the Gregorian calendar, 1 to 9999.
  public var year: Int
  /// The month, 1 to 12.
  public var month: Int
  /// The day of the month, 1 to 31.
  public var day: Int
  /// The hour, 0 to 23.
  public var hour: Int
  /// The minute, 0 to 59.
  public var minute: Int
  /// The second, 0 to 59.
  public var second: Int
  /// The microsecond, 0 to 999,999.
  public var microsecond: Int

  /// - Parameters: as the properties
  public init(
    year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0, microsecond: Int = 0
  ) {
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
    self.microsecond = microsecond
  }

  /// A time since the Unix epoch.
  /// - Parameters:
  ///   - unixSeconds: seconds since 1970-01-01 UTC; clamped to the years 1 to 9999
  ///   - utcOffset: seconds to add for the time zone
  public init(unixSeconds: Int, utcOffset: Int = 0) {
    let earliest = -62_135_596_800
    let latest = 253_402_300_799
    let offset = min(max(utcOffset, -86_400), 86_400)
    let seconds = min(max(min(max(unixSeconds, earliest), latest) + offset, earliest), latest)
    let days = seconds >= 0 ? seconds / 86_400 : (seconds - 86_399) / 86_400
    let ofDay = seconds - days * 86_400
    (year, month, day) = Self.civil(daysSince1970: days)
    hour = ofDay / 3600
    minute = ofDay / 60 % 60
    second = ofDay % 60
    microsecond = 0
  }

  /// The proleptic Gregorian date. The computation lets years begin in March, so that the leap day is a year's last.
  static func civil(daysSince1970 days: Int) -> (year: Int, month: Int, day: Int) {
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let ofEra = shifted - era * 146_097
    let yearOfEra = (ofEra - ofEra / 1460 + ofEra / 36_524 - ofEra / 146_096) / 365
    let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * ofYear + 2) / 153
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, ofYear - (153 * monthFromMarch + 2) / 5 + 1)
  }

  /// Days from the first of January, from 0.
  var dayOfYear: Int {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]
    let index = min(max(month, 1), 12) - 1
    return before[index] + (leap && index > 1 ? 1 : 0) + day - 1
  }

  /// 0 is Sunday.
  var weekday: Int {
    let previous = min(max(year, 1), 9999) - 1
    return (previous * 365 + previous / 4 - previous / 100 + previous / 400 + dayOfYear + 1) % 7
  }

  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
  ]
  private static let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

  /// Python's `datetime.strftime` in the C locale; `nil` if a directive is unknown.
  func formatted(_ format: [UInt8]) -> [UInt8]? {
    var result: [UInt8] = []
    var index = 0
    while index < format.count {
      let byte = format[index]
      index += 1
      guard byte == UInt8(ascii: "%") else {
        result.append(byte)
        continue
      }
      guard index < format.count else { return nil }
      var unpadded = false
      if format[index] == UInt8(ascii: "-"), index + 1 < format.count {
        unpadded = true
        index += 1
      }
      guard let text = directive(format[index], unpadded: unpadded) else { return nil }
      result.append(contentsOf: text.utf8)
      index += 1
    }
    return result
  }

  private func directive(_ letter: UInt8, unpadded: Bool) -> String? {
    func number(_ value: Int, _ width: Int, _ fill: Character = "0") -> String {
      let digits = String(value)
      return unpadded ? digits : String(repeating: fill, count: max(0, width - digits.count)) + digits
    }
    let monthName = Self.months[min(max(month, 1), 12) - 1]
    let twelve = hour % 12 == 0 ? 12 : hour % 12
    switch Character(Unicode.Scalar(letter)) {
    case "a": return String(Self.weekdays[weekday].prefix(3))
    case "A": return Self.weekdays[weekday]
    case "b", "h": return String(monthName.prefix(3))
    case "B": return monthName
    case "c": return formatted(Array("%a %b %e %H:%M:%S %Y".utf8)).map { String(decoding: $0, as: UTF8.self) }
    case "d": return number(day, 2)
    case "D", "x": return formatted(Array("%m/%d/%y".utf8)).map { String(decoding: $0, as: UTF8.self) }
    case "e": return number(day, 2, " ")
    case "f": return number(microsecond, 6)
    case "F": return formatted(Array("%Y-%m-%d".utf8)).map { String(decoding: $0, as: UTF8.self) }
    case "H": return number(hour, 2)
    case "I": return number(twelve, 2)
    case "j": return number(dayOfYear + 1, 3)
    case "m": return number(month, 2)
    case "M": return number(minute, 2)
    case "n": return "\n"
    case "p": return hour < 12 ? "AM" : "PM"
    case "R": return formatted(Array("%H:%M".utf8)).map { String(decoding: $0, as: UTF8.self) }
    case "S": return number(second, 2)
    case "t": return "\t"
    case "T", "X": return formatted(Array("%H:%M:%S".utf8)).map { String(decoding: $0, as: UTF8.self) }
    case "u": return String(weekday == 0 ? 7 : weekday)
    case "U": return number((dayOfYear + 7 - weekday) / 7, 2)
    case "w": return String(weekday)
    case "W": return number((dayOfYear + 7 - (weekday + 6) % 7) / 7, 2)
    case "y": return number(year % 100, 2)
    case "Y": return String(year)
    case "z", "Z": return ""
    case "%": return "%"
    default: return nil
    }
  }
}
