import Foundation
import Testing

@testable import graft

/// The manual pages.
@Suite struct ManualTests {
  @Test func everyVisibleCommandHasAPage() throws {
    let names = try ManualPage.all(of: Graft.self).map(\.name)
    #expect(names.first == "graft" && Set(names).count == names.count)
    for name in ["graft-serve", "graft-adapters", "graft-adapters-list", "graft-jobs-follow", "graft-sweep"] {
      #expect(names.contains(name))
    }
    #expect(!names.contains("graft-manual") && !names.contains { $0.hasSuffix("help") })
  }

  @Test func everyOptionIsThere() throws {
    let page = try #require(ManualPage.all(of: Graft.self).first { $0.name == "graft-train" }).text
    for argument in try CommandDescription(TrainCommand.self).arguments {
      guard let name = argument.optionName else { continue }
      #expect(page.contains("\\fB" + ManualPage.escaped("--\(name)")), "\(name)")
    }
    #expect(page.contains(".SH HYPERPARAMETERS") && page.contains("(default: fast)"))
  }

  @Test func textHasNoMeaningForRoff() {
    #expect(ManualPage.escaped(".SH x\n'a\\b - c") == "\\&.SH x\n\\&'a\\eb \\- c")
    #expect(ManualPage.escaped("1 / √r") == "1 / \\[u221A]r")
  }
}
