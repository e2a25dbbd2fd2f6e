import Formats
import Foundation
import Testing

@testable import graft

/// What is typed in a chat, without a model.
@Suite struct ChatTests {
  @Test func commandsAndMessages() {
    var session = ChatSession(system: "Be brief.")
    #expect(session.take("  ") == .nothing && session.take("Hello ") == .ask)
    #expect(session.messages.count == 2 && session.messages[1]["content"]?.string == "Hello")
    session.finish("Hi.")
    #expect(session.take("again") == .ask)
    session.forgetQuestion()
    #expect(session.messages.count == 3)
    #expect(session.take("/reset") == .nothing && session.messages.map { $0["role"]?.string } == ["system"])
    #expect(session.take("/system Rhyme. ") == .nothing && session.messages[0]["content"]?.string == "Rhyme.")
    #expect(session.take("/system") == .nothing && session.messages.isEmpty)
    #expect(session.take("/adapter") == .adapters(nil) && session.take("/adapter a:0.5, b") == .adapters("a:0.5, b"))
    #expect(
      session.take("/exit") == .end && session.take("/quit") == .end && session.take("/help") == .say(ChatSession.help))
  }

  @Test(arguments: ["/helo", "/", "/adapters", "/Reset", "/usr/bin is what?"])
  func unknownCommandsAreErrors(text: String) {
    var session = ChatSession(system: "")
    guard case .failure(let reason) = session.take(text) else { return #expect(Bool(false), "\(text) was taken") }
    #expect(reason.contains("/help") && session.messages.isEmpty)
    #expect(session.take("/" + text) == .ask && session.messages[0]["content"]?.string == text)
  }

  private func messages(_ lines: [String]) -> [String] {
    var rest = lines[...]
    var firsts: [Bool] = []
    var found: [String] = []
    while let message = LineEditor.message({ isFirst in
      firsts.append(isFirst)
      return rest.popFirst()
    }) { found.append(message) }
    return found
  }

  @Test func messagesOfSeveralLines() {
    #expect(messages(["a", "b\\", "c\\", "d", "e"]) == ["a", "b\nc\nd", "e"])
    #expect(messages(["\"\"\"", "x\\", "", "y", " \"\"\" ", "z"]) == ["x\\\n\ny", "z"])
    #expect(messages(["a\\"]) == ["a\n"] && messages(["\"\"\"", "x"]) == ["x"] && messages([]) == [])
  }

  @Test func weights() {
    #expect(ModelChat.parts("a/b:0.5") == ("a/b", 0.5) && ModelChat.parts("a") == ("a", 1))
    #expect(ModelChat.parts("C:x") == ("C:x", 1) && ModelChat.parts("a:nan") == ("a:nan", 1))
  }

  @Test func whereTheHistoryIs() {
    #expect(LineEditor.historyFile(["HOME": "/h"])?.path == "/h/.local/state/graft/chat-history")
    #expect(LineEditor.historyFile(["HOME": "/h", "XDG_STATE_HOME": "/s"])?.path == "/s/graft/chat-history")
    #expect(LineEditor.historyFile([:]) == nil)
  }
}
