import Foundation

/// Memory that the system would give this process.
enum MemoryBudget {
  /// Bytes that are free or can be freed: the machine's, and what the control group leaves where that is less; `nil`
  /// where the system does not tell.
  static var available: Int? {
    let machine = text("/proc/meminfo")?.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
      .flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) }.map { $0 << 10 }
    let group = number("/sys/fs/cgroup/memory.max").flatMap { limit in
      number("/sys/fs/cgroup/memory.current").map { max(limit - $0, 0) }
    }
    return [machine, group].compactMap(\.self).min()
  }

  private static func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }

  private static func number(_ path: String) -> Int? {
    text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }
}
