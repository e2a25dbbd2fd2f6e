import ArgumentParser
import Foundation
import Testing

@testable import graft

/// The config file, and the order of command line, variables and file.
@Suite struct ConfigTests {
  private func file(_ text: String) throws -> ConfigFile { try ConfigFile(Data(text.utf8), path: "c.yaml") }

  @Test func keysAndValues() throws {
    let file = try file("# mine\nport: 81\nmodel: \"a: b.gguf\"\nallowed-host:\n  - x\n  - 'y'\ninsecure: yes\n")
    #expect(
      file.settings == [
        .init(key: "port", values: ["81"], line: 2), .init(key: "model", values: ["a: b.gguf"], line: 3),
        .init(key: "allowed-host", values: ["x", "y"], line: 4), .init(key: "insecure", values: ["yes"], line: 7),
      ])
    #expect(try self.file("").settings.isEmpty && self.file("# nothing\n").settings.isEmpty)
  }

  @Test(arguments: [
    ("port: [", "line"), ("- a\n- b", "line 1"), ("port: 1\nport: 2", "line 2"), ("a: 1\nserve:\n  port: 1", "line 3"),
    ("port:", "no value"), ("x: 1\n\tport: 2", "line 2"), ("port: [[1]]", "list of values"), ("? [a]\n: b", "a key"),
    ("\u{0}", "line"),
  ])
  func whatIsWrongIsNamed(text: String, part: String) throws {
    let error = #expect(throws: ValidationError.self) { try file(text) }
    #expect(
      error?.message.contains("c.yaml") == true && error?.message.contains(part) == true, "\(error?.message ?? "")")
  }

  @Test func bytesThatAreNoText() {
    #expect(throws: ValidationError.self) { try ConfigFile(Data([0x61, 0x3A, 0x20, 0xFF, 0xFE]), path: "c.yaml") }
  }

  private func line(_ arguments: [String], _ environment: [String: String], _ text: String) throws -> [String] {
    try EnvironmentArguments(arguments, environment: environment, file: file(text), root: Graft.self).arguments
  }

  @Test func theOrderOfPrecedence() throws {
    let text = "port: 1\nhost: h\ninsecure: true\nlora-r: 4\nallowed-host: [a, b]\n"
    #expect(
      try line(["serve", "--port", "3"], ["GRAFT_HOST": "v"], text) == [
        "serve", "--host=v", "--insecure", "--allowed-host=a", "--allowed-host=b", "--port", "3",
      ])
    #expect(try line(["serve"], ["GRAFT_PORT": "2"], "port: 1") == ["serve", "--port=2"])
    #expect(try line(["serve"], ["GRAFT_PORT": ""], "port: 1") == ["serve", "--port=1"])
    #expect(try line(["serve"], ["GRAFT_INSECURE": "off"], "insecure: on") == ["serve"])
    #expect(try line(["tokenize"], [:], "port: 1") == ["tokenize"], "another command's option")
  }

  @Test func errorsNameTheLine() throws {
    let unknown = #expect(throws: ValidationError.self) { try line(["serve"], [:], "port: 1\nprot: 2") }
    #expect(unknown?.message.contains("line 2 of c.yaml") == true)
    let near = #expect(throws: ValidationError.self) { try line(["serve"], [:], "kv: 1GiB") }
    #expect(near?.message.contains("did you mean 'kv-memory'?") == true)
    let flag = #expect(throws: ValidationError.self) { try line(["serve"], [:], "insecure: maybe") }
    #expect(flag?.message.contains("line 1 of c.yaml must be on or off") == true)
    let given = try EnvironmentArguments(["serve"], environment: [:], file: file("port: x"), root: Graft.self)
    #expect(given.explaining("--port is wrong").contains("--port is given by line 1 of c.yaml"))
  }

  @Test func whereTheFileIs() throws {
    #expect(ConfigFile.usualPath(["HOME": "/h"]) == "/h/.config/graft/config.yaml")
    #expect(ConfigFile.usualPath(["HOME": "/h", "XDG_CONFIG_HOME": "/x"]) == "/x/graft/config.yaml")
    #expect(try ConfigFile.find(nil, environment: ["HOME": "/nowhere"]) == nil)
    #expect(throws: ValidationError.self) { try ConfigFile.find("/nowhere.yaml", environment: [:]) }
    for given in [["--config", "f"], ["--config=f"]] {
      var arguments = ["serve"] + given + ["--port", "1"]
      #expect(try EnvironmentArguments.takeConfig(from: &arguments) == "f" && arguments == ["serve", "--port", "1"])
    }
    var missing = ["serve", "--config", "--", "x"]
    #expect(throws: ValidationError.self) { try EnvironmentArguments.takeConfig(from: &missing) }
    var after = ["tokenize", "--", "--config", "x"]
    #expect(try EnvironmentArguments.takeConfig(from: &after) == nil && after.count == 4)
  }
}
