import ArgumentParser
import Foundation
import Kernels
import Testing

@testable import graft

/// What the doctor says of machines that are not this one.
@Suite struct DoctorTests {
  private func report(_ files: [String: String]) -> MachineReport {
    MachineReport(read: { files[$0] }, memory: (16 << 30, 8 << 30), descriptors: (65536, 65536))
  }

  private func finding(_ title: String, _ report: MachineReport) throws -> Finding {
    try #require(report.findings.first { $0.title == title })
  }

  @Test func processors() throws {
    let new = report(["/proc/cpuinfo": "model name\t: X\nflags\t\t: fpu avx2 fma f16c avx512_vnni\n"])
    #expect(try finding("processor", new).state == .fine)
    #expect(try finding("processor", new).value.contains("avx2 fma f16c avx512_vnni"))
    let old = try finding("processor", report(["/proc/cpuinfo": "flags\t: sse2 avx\n"]))
    #expect(old.state == .warning && old.value.contains("no AVX2") && old.advice?.contains("AVX2") == true)
  }

  @Test(arguments: [("[always] madvise never", "always", "ok"), ("always madvise [never]", "never", "warning")])
  func hugePages(text: String, mode: String, state: String) throws {
    let found = try finding("huge pages", report(["/sys/kernel/mm/transparent_hugepage/enabled": text]))
    #expect(found.value.hasSuffix(mode) && found.state.rawValue == state && (found.advice == nil) == (state == "ok"))
  }

  @Test func kernels() throws {
    #expect(try finding("kernels", report([:])).value.hasPrefix(KernelSet.best.instructionSet.rawValue))
    var refused = report([:])
    refused.tilesAreRefused = true
    let found = try finding("kernels", refused)
    #expect(found.state == .warning && found.advice?.contains("tile registers") == true)
    var slow = report([:])
    slow.kernelSet = try #require(KernelSet(.scalar))
    #expect(try finding("kernels", slow).state == .warning && finding("kernels", slow).value.hasPrefix("scalar "))
  }

  /// The processor's tile registers cannot be used where the system refuses them: other kernels are, with one line.
  @Test func refusedTileRegistersAreNamed() throws {
    let byDefault = try KernelOptions.parse([])
    let used = KernelSet.best.instructionSet.rawValue
    #expect(byDefault.warning(tilesAreRefused: true) == "the system refuses AMX's tile registers; kernels: \(used)")
    #expect(byDefault.warning(tilesAreRefused: false) == nil)
    #expect(try KernelOptions.parse(["--kernels", "scalar"]).warning(tilesAreRefused: true) == nil)
    #expect(
      KernelOptions.lack(of: .amx, tilesAreRefused: true).hasPrefix("the system refuses AMX's tile registers; this"))
    #expect(
      KernelOptions.lack(of: .amx, tilesAreRefused: false).hasPrefix("this machine has only tile-reference, scalar"))
  }

  /// What a variable or the file names for every command.
  @Test func namedKernels() throws {
    #expect(try KernelOptions.set(nil).instructionSet == KernelSet.best.instructionSet)
    #expect(try KernelOptions.set(("scalar", "GRAFT_KERNELS")).instructionSet == .scalar)
    let error = #expect(throws: ValidationError.self) { try KernelOptions.set(("fast", "line 2 of a.yaml")) }
    #expect(error?.message == "line 2 of a.yaml: there are no kernels 'fast'")
    let file = try ConfigFile(Data("kernels: avx2\n".utf8), path: "a.yaml")
    func named(_ environment: [String: String]) throws -> String? {
      try EnvironmentArguments(["--version"], environment: environment, file: file, root: Graft.self)
        .value(of: "kernels").map { "\($0.value) \($0.source)" }
    }
    #expect(try named([:]) == "avx2 line 1 of a.yaml" && named(["GRAFT_KERNELS": "vnni"]) == "vnni GRAFT_KERNELS")
  }

  @Test func memoryAndDescriptors() throws {
    var low = report([:])
    low.memory = (2 << 30, 1 << 29)
    low.descriptors = (1024, 524288)
    #expect(try finding("memory", low).state == .warning && finding("memory", low).value == "512 MiB free of 2.0 GiB")
    #expect(try finding("descriptors", low).advice?.contains("ulimit -n 65536") == true)
    #expect(try finding("memory", report([:])).state == .fine && finding("descriptors", report([:])).state == .fine)
  }

  @Test func checksums() throws {
    let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: file) }
    try Data("no model".utf8).write(to: file)
    let findings = ModelReport(file, wanted: nil).findings
    #expect(findings.map(\.state) == [.bad] && findings[0].advice?.contains("GGUF") == true)
    #expect(FolderReport.finding(file.path).state == .bad && FolderReport.finding("/").title == "data folder")
  }

  @Test func theTextIsAligned() {
    let text = DoctorCommand.text(
      [Finding("a", .fine, "x"), Finding("long", .bad, "y", advice: "do z")],
      Terminal(isTerminal: true, usesColour: false, width: 80))
    #expect(text == "ok       a     x\nproblem  long  y\n               → do z")
  }
}
