import Foundation
import Model
import Testing

@testable import Serve

/// A hung engine is told from an idle one.
@Suite struct TurnAgeTests {
  @Test func ageGrowsOnlyWithWorkAtHand() {
    let inbox = EngineInbox()
    #expect(inbox.turnAge == .zero, "nothing has been asked")
    // The thread drains, and waits for more.
    let drained = Flag()
    Thread.detachNewThread {
      _ = inbox.drain(waiting: true)
      drained.set()
      // It hangs from here on.
    }
    usleep(50_000)
    #expect(inbox.turnAge == .zero, "it waits for work")
    inbox.post(.cancel(GenerationID(value: 1)))
    #expect(drained.wait())
    usleep(20_000)
    let age = inbox.turnAge
    #expect(age >= .milliseconds(20))
    usleep(20_000)
    #expect(inbox.turnAge >= age + .milliseconds(20))
    // It comes round.
    _ = inbox.drain(waiting: false)
    #expect(inbox.turnAge < age)
  }

  /// A message that nobody reads ages as well.
  @Test func unreadMessagesCount() {
    let inbox = EngineInbox()
    inbox.post(.cancel(GenerationID(value: 1)))
    usleep(20_000)
    inbox.post(.cancel(GenerationID(value: 1)))
    #expect(inbox.turnAge >= .milliseconds(20))
  }
}
