import Foundation

/// Numbers with units, as people read them.
enum Quantity {
  /// "512 B", "93.8 MiB"
  static func bytes(_ count: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var (value, unit) = (Double(count), 0)
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(count) B" : String(format: value < 100 ? "%.1f %@" : "%.0f %@", value, units[unit])
  }

  /// "45 s", "12 min", "3 h 5 min"
  static func time(_ seconds: Double) -> String {
    let whole = Int(min(max(seconds, 0), 1e7).rounded(.up))
    if whole < 120 { return "\(whole) s" }
    return whole < 7200 ? "\(whole / 60) min" : "\(whole / 3600) h \(whole / 60 % 60) min"
  }

  /// "2026-11-29 07:41", in the time zone of the machine.
  static func date(_ secondsSince1970: Int) -> String {
    var time = time_t(secondsSince1970)
    var fields = tm()
    localtime_r(&time, &fields)
    return String(
      format: "%04d-%02d-%02d %02d:%02d", fields.tm_year + 1900, fields.tm_mon + 1, fields.tm_mday, fields.tm_hour,
      fields.tm_min)
  }

  /// A bar of 20 characters.
  static func bar(_ done: Int, of all: Int) -> String {
    let filled = min(max(done * 20 / max(all, 1), 0), 20)
    return String(repeating: "█", count: filled) + String(repeating: "░", count: 20 - filled)
  }
}
