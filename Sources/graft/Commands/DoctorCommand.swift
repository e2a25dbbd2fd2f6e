import ArgumentParser
import Formats
import Foundation
import Kernels
import Model
import Serve

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Looks at this machine, the data folder and a model, and says what to do.",
    usage: "graft doctor [<options>]", discussion: "The exit code is 1 if something prevents serving.")

  @Option(help: "A base to check: a GGUF file or a model folder.")
  var model: String = ""

  @Option(
    help: ArgumentHelp(
      "The SHA-256 that the model's file should have (default: that of MODEL.sha256 or manifest.json beside it).",
      valueName: "hex"))
  var sha256: String = ""

  @Option(help: "The data folder to check.")
  var dataDir: String = DataFolder.defaultPath

  @OptionGroup var kernel: KernelOptions

  @OptionGroup var output: JSONOption

  func validate() throws {
    guard sha256.isEmpty || !model.isEmpty else { throw ValidationError("--sha256 needs --model") }
    guard sha256.isEmpty || (sha256.count == 64 && sha256.allSatisfy(\.isHexDigit)) else {
      throw ValidationError("--sha256 must be 64 hexadecimal digits")
    }
  }

  func run() throws {
    let findings =
      MachineReport(kernelSet: kernel.set, tilesAreRefused: kernel.warning() != nil).findings + [
        FolderReport.finding(dataDir)
      ] + modelFindings
    if output.json {
      JSONValue.array(findings.map(\.json)).printed()
    } else {
      print(Self.text(findings, Terminal.output))
    }
    if findings.contains(where: { $0.state == .bad }) { throw ExitCode.failure }
  }

  private var modelFindings: [Finding] {
    if model.isEmpty {
      return [Finding("model", .fine, "not checked", advice: "give --model PATH to check a model's file")]
    }
    return ModelReport(URL(filePath: model).standardizedFileURL, wanted: sha256.isEmpty ? nil : sha256).findings
  }

  static func text(_ findings: [Finding], _ terminal: Terminal) -> String {
    let width = findings.map(\.title.count).max() ?? 0
    return findings.flatMap { finding -> [String] in
      let style: Terminal.Style =
        switch finding.state {
        case .fine: .good
        case .warning: .warning
        case .bad: .bad
        }
      let padding = String(repeating: " ", count: width - finding.title.count + 2)
      let mark = finding.state.rawValue + String(repeating: " ", count: 9 - finding.state.rawValue.count)
      let line =
        terminal.styled(mark, style) + terminal.styled(finding.title, .bold) + padding
        + Terminal.harmless(finding.value)
      let indent = String(repeating: " ", count: 9 + width + 2)
      return [line] + [finding.advice.map { indent + terminal.styled("→ \($0)", .faint) }].compactMap(\.self)
    }.joined(separator: "\n")
  }
}

/// One thing that was looked at.
struct Finding: Equatable {
  enum State: String {
    case fine = "ok"
    case warning
    case bad = "problem"
  }

  let title: String
  let state: State
  let value: String
  let advice: String?

  init(_ title: String, _ state: State, _ value: String, advice: String? = nil) {
    (self.title, self.state, self.value, self.advice) = (title, state, value, advice)
  }

  var json: JSONValue {
    [
      "check": .string(title), "state": .string(state.rawValue), "value": .string(value),
      "advice": advice.map(JSONValue.string) ?? .null,
    ]
  }
}

/// The data folder's state.
enum FolderReport {
  private static let leastSpace = 2 << 30

  static func finding(_ path: String) -> Finding {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      return Finding("data folder", .fine, "\(path) does not exist yet; it is made when it is needed")
    }
    guard isFolder.boolValue else {
      return Finding("data folder", .bad, "\(path) is a file", advice: "give another folder with --data-dir")
    }
    guard access(path, W_OK | X_OK) == 0 else {
      return Finding(
        "data folder", .bad, "\(path) cannot be written", advice: "change its owner, or give another with --data-dir")
    }
    var space = statvfs()
    guard statvfs(path, &space) == 0 else { return Finding("data folder", .fine, path) }
    let free = Int(space.f_bavail) * Int(space.f_frsize)
    return Finding(
      "data folder", free < leastSpace ? .warning : .fine, "\(path), \(Quantity.bytes(free)) free",
      advice: free < leastSpace
        ? "prepared bases and checkpoints need room: free some, or give another --data-dir" : nil)
  }
}

/// A model's file, read whole.
struct ModelReport {
  let url: URL
  /// The SHA-256 that the file should have; without it, that of a file beside it.
  let wanted: String?

  init(_ url: URL, wanted: String?) { (self.url, self.wanted) = (url, wanted) }

  var findings: [Finding] {
    do {
      let config = try openPublishedModel(at: url).config
      let shape = "\(config.layerCount) layers of \(config.hiddenSize), context \(config.contextLength)"
      return [Finding("model", .fine, "\(url.lastPathComponent): \(shape)"), checksum].compactMap(\.self)
    } catch {
      return [
        Finding(
          "model", .bad, "\(error)",
          advice:
            "give a whole GGUF file or Hugging Face folder of a Llama-family model; download it again if it was cut")
      ]
    }
  }

  /// What a file beside the model says: MODEL.sha256, as sha256sum writes it, or manifest.json, as this project has it.
  private var recorded: String? {
    if let text = try? String(contentsOf: url.appendingPathExtension("sha256"), encoding: .utf8) {
      return text.split(whereSeparator: \.isWhitespace).first.map(String.init)
    }
    let manifest = url.deletingLastPathComponent().appending(path: "manifest.json")
    guard let text = try? Data(contentsOf: manifest) else { return nil }
    let models = (try? JSONValue.parse(text, subject: manifest.path))?["models"]?.array ?? []
    return models.first { $0["file"]?.string == url.lastPathComponent }?["sha256"]?.string
  }

  private var checksum: Finding? {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), !isFolder.boolValue else {
      return nil
    }
    guard let found = try? SHA256.of(file: url) else {
      return Finding(
        "checksum", .bad, "\(url.path) cannot be read", advice: "check the disk and the file's permissions")
    }
    guard let wanted = wanted ?? recorded else {
      return Finding("checksum", .fine, found, advice: "compare it with the publisher's, or give it with --sha256")
    }
    let isRight = wanted.lowercased() == found
    return Finding(
      "checksum", isRight ? .fine : .bad,
      isRight ? "\(found), as expected" : "\(found), expected \(wanted.lowercased())",
      advice: isRight ? nil : "the file is damaged or another one: download it again")
  }
}
