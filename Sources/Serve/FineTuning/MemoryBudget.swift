import Foundation

/// The memory that the system allows this process.
public enum MemoryBudget {
  /// All memory in bytes: the machine's, or the control group's limit if that is less; `nil` if the system does not
  /// report it.
  public static var total: Int? {
    [machine("MemTotal:"), number("/sys/fs/cgroup/memory.max")].compactMap(\.self).min()
  }

  /// The memory in bytes that is free or can be freed: the machine's, or what the control group allows if that is less;
  /// `nil` if the system does not report it.
  public static var available: Int? {
    let group = number("/sys/fs/cgroup/memory.max").flatMap { limit in
      number("/sys/fs/cgroup/memory.current").map { max(limit - $0, 0) }
    }
    return [machine("MemAvailable:"), group].compactMap(\.self).min()
  }

  /// A line of /proc/meminfo, in bytes.
  private static func machine(_ name: String) -> Int? {
    text("/proc/meminfo")?.split(separator: "\n").first { $0.hasPrefix(name) }
      .flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) }.map { $0 << 10 }
  }

  private static func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }

  private static func number(_ path: String) -> Int? {
    text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }
}
