import Foundation
import Kernels
import Serve

/// What the machine has that decides on speed and limits.
struct MachineReport {
  /// The kernels that are used.
  var kernelSet = KernelSet.best
  /// Whether they are used because the system does not let this process use the processor's tile registers.
  var tilesAreRefused = false
  /// Reads a file of /proc or /sys; a test gives others.
  var read: (String) -> String? = { try? String(contentsOfFile: $0, encoding: .utf8) }
  /// Bytes of all memory, and of memory that is free; `nil` where the system does not say.
  var memory: (total: Int?, free: Int?) = (MemoryBudget.total, MemoryBudget.available)
  /// The soft and the hard limit of descriptors.
  var descriptors: (soft: UInt, hard: UInt) = {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue)), &limit)
    return (UInt(limit.rlim_cur), UInt(limit.rlim_max))
  }()

  private static let usefulFeatures = [
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "amx_tile", "amx_int8",
    "amx_bf16",
  ]
  private static let leastFree = 1 << 30
  private static let leastDescriptors: UInt = 4096

  var findings: [Finding] { [processor, kernels, memoryFinding, hugePages, descriptorFinding] }

  private func cpuLine(_ name: String) -> String? {
    read("/proc/cpuinfo")?.split(separator: "\n").first { $0.hasPrefix(name) }
      .flatMap { $0.split(separator: ":", maxSplits: 1).last }.map { $0.trimmingCharacters(in: .whitespaces) }
  }

  private var processor: Finding {
    let flags = Set((cpuLine("flags") ?? "").split(separator: " ").map(String.init))
    let found = Self.usefulFeatures.filter(flags.contains)
    let name = cpuLine("model name") ?? "unknown"
    let count = ProcessInfo.processInfo.activeProcessorCount
    let value = "\(name), \(count) threads; \(found.isEmpty ? "no AVX2" : found.joined(separator: " "))"
    guard flags.isSuperset(of: ["avx2", "fma", "f16c"]) else {
      return Finding(
        "processor", .warning, value,
        advice: "a processor with AVX2 is many times as fast; a virtual machine may hide it")
    }
    return Finding("processor", .fine, value)
  }

  private var kernels: Finding {
    let used = kernelSet.instructionSet
    let others = InstructionSet.allCases.filter { KernelSet($0) != nil }.map(\.rawValue).joined(separator: ", ")
    let value = "\(used.rawValue) (this machine runs \(others))"
    if [.scalar, .tileReference].contains(used) {
      return Finding("kernels", .warning, value, advice: "these kernels are for tests; serving is slow")
    }
    guard tilesAreRefused else { return Finding("kernels", .fine, value) }
    return Finding(
      "kernels", .warning, value,
      advice:
        "\(KernelOptions.refusal): a container's seccomp rules may forbid arch_prctl, or the kernel is older than 5.16")
  }

  private var memoryFinding: Finding {
    guard let total = memory.total, let free = memory.free else {
      return Finding("memory", .warning, "the system does not say", advice: "give --kv-memory and --training-memory")
    }
    let value = "\(Quantity.bytes(free)) free of \(Quantity.bytes(total))"
    let isLow = free < Self.leastFree
    return Finding(
      "memory", isLow ? .warning : .fine, value,
      advice: isLow ? "end other programs, or lower --kv-memory and --adapter-memory" : nil)
  }

  private var hugePages: Finding {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled"
    guard let text = read(path), let start = text.firstIndex(of: "["), let end = text.firstIndex(of: "]") else {
      return Finding("huge pages", .fine, "the system does not say")
    }
    let mode = String(text[text.index(after: start)..<end])
    // Graft does not ask for them, so only "always" gives it any.
    let isOn = mode == "always"
    return Finding(
      "huge pages", isOn ? .fine : .warning, "transparent huge pages: \(mode)",
      advice: isOn ? nil : "as root: echo always > \(path); large buffers may then be read faster")
  }

  private var descriptorFinding: Finding {
    let isLow = descriptors.soft < Self.leastDescriptors
    return Finding(
      "descriptors", isLow ? .warning : .fine, "\(descriptors.soft) (at most \(descriptors.hard))",
      advice: isLow
        ? "each connection and each adapter in memory needs one: ulimit -n \(min(65536, descriptors.hard))" : nil)
  }
}
