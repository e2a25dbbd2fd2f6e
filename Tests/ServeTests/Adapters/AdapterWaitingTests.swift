import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Model
@testable import Serve

/// Requests for adapters that are not in memory while those that run hold all of it.
@Suite struct AdapterWaitingTests {
  private let setting: StoreSetting
  private let one = StoreSetting.adapterBytes

  init() throws {
    setting = try StoreSetting(adapters: StoreSetting.four)
  }

  /// A store with room for so many adapters, all of which are registered.
  private func store(room: Int, patience: Duration = .seconds(3600)) throws -> AdapterStore {
    let store = try setting.open(memory: room * one, patience: patience)
    for name in StoreSetting.four { try store.load(name: name, path: name) }
    return store
  }

  /// What requests were answered, in the order of the answers, with what they hold.
  private final class Answers: Sendable {
    private let list = Mutex<[(name: String, result: Result<[Adapter], AdapterError>)]>([])
    private let refused = Mutex<[(name: String, error: EngineError)]>([])

    func add(_ name: String, _ result: Result<[Adapter], AdapterError>) { list.withLock { $0.append((name, result)) } }

    func refuse(_ name: String, _ error: EngineError) { refused.withLock { $0.append((name, error)) } }

    var names: [String] { list.withLock { $0.map(\.name) } + refused.withLock { $0.map(\.name) } }

    /// Those that were not admitted.
    var refusals: [EngineError] { refused.withLock { $0.map(\.error) } }

    var failures: [AdapterError.Kind] {
      list.withLock { $0.compactMap { if case .failure(let error) = $0.result { error.kind } else { nil } } }
    }

    /// The request ends.
    func release(_ name: String) { list.withLock { list in list.removeAll { $0.name == name } } }
  }

  /// Asks for adapters as requests do, after they were admitted; their tickets are released with the answer.
  @discardableResult
  private func ask(
    _ store: AdapterStore, _ names: String..., into answers: Answers, timeout: Duration? = nil,
    admissions: AdmissionControl? = nil
  ) -> AdapterWait? {
    let label = names.joined(separator: ",")
    let admission: Admission?
    do throws(EngineError) { admission = try admissions?.admit(ClientIdentity(), count: 1)[0] } catch {
      answers.refuse(label, error)
      return nil
    }
    return store.acquire(names.map { AdapterReference(name: $0) }, timeout: timeout) {
      admission?.release()
      answers.add(label, $0)
    }
  }

  @Test func thoseWhoWaitGetTheirsInTheOrderOfComing() throws {
    let store = try store(room: 1)
    let answers = Answers()
    for name in ["a", "b", "c", "d"] { ask(store, name, into: answers) }
    for name in ["a", "b", "c", "d"] {
      #expect(eventually { answers.names == [name] })
      answers.release(name)
    }
    #expect(eventually { store.state.withLock { $0.waiters.isEmpty && $0.reading.isEmpty } })
    #expect(store.memoryInUse.bytes <= one)
  }

  /// An adapter that is always in use would keep all others out for ever.
  @Test func whatSomebodyWaitsForIsNotHandedOutAgain() throws {
    let store = try store(room: 1)
    let (first, later) = (Answers(), Answers())
    ask(store, "a", into: first)
    #expect(eventually { first.names == ["a"] })
    ask(store, "b", into: later)
    ask(store, "a", into: later)
    #expect(later.names.isEmpty, "a is in memory, but b came first")
    first.release("a")
    #expect(eventually { later.names == ["b"] })
    later.release("b")
    #expect(eventually { later.names == ["a"] })
  }

  @Test func whoNeedsNoMemoryOvertakes() throws {
    let store = try store(room: 2)
    let answers = Answers()
    ask(store, "a", into: answers)
    ask(store, "b", into: answers)
    #expect(eventually { answers.names.count == 2 })
    // It needs one to leave: a, which was used less recently. b is in nobody's way.
    ask(store, "c", into: answers)
    ask(store, "b", into: answers)
    #expect(answers.names.sorted() == ["a", "b", "b"])
    answers.release("b")
    #expect(eventually { answers.names.contains("c") })
  }

  @Test func allWaitSideBySide() throws {
    let store = try store(room: 1)
    let (held, answers) = (Answers(), Answers())
    ask(store, "a", into: held)
    #expect(eventually { held.names == ["a"] })
    let admissions = AdmissionControl(capacity: 100)
    for _ in 0..<12 { ask(store, "b", into: answers, admissions: admissions) }
    ask(store, "c", into: answers, timeout: .seconds(1800), admissions: admissions)
    #expect(admissions.waitingCount == 13 && answers.names.isEmpty)
    // As if half an hour had gone by: the request's own time is over, theirs is not.
    var step = store.state.withLock { $0.advance(now: .now + .seconds(1801)) }
    step.answer()
    #expect(answers.failures == [.timedOut])
    // At one and the same moment all of theirs is.
    step = store.state.withLock { $0.advance(now: .now + .seconds(3601)) }
    step.answer()
    #expect(answers.failures.count { $0 == .overBudget } == 12 && admissions.waitingCount == 0)
    #expect(held.names == ["a"])
  }

  @Test func aWaitCountsAsAPlaceInTheQueue() throws {
    let store = try store(room: 1)
    let (held, answers, admissions) = (Answers(), Answers(), AdmissionControl(capacity: 2, secondsPerStart: 3.5))
    ask(store, "a", into: held, admissions: admissions)
    #expect(eventually { held.names == ["a"] && admissions.waitingCount == 0 })
    let refusal = EngineError.overloaded(waiting: 2, retryAfter: 7)
    for name in ["b", "c", "d"] { ask(store, name, into: answers, admissions: admissions) }
    #expect(answers.refusals == [refusal] && answers.names == ["d"] && admissions.waitingCount == 2)
    ask(store, "a", into: answers, admissions: admissions)
    #expect(answers.refusals == [refusal, refusal])
    held.release("a")
    #expect(eventually { answers.names.contains("b") && admissions.waitingCount == 1 })
  }

  @Test func whoLeavesWaitsNoLonger() throws {
    let store = try store(room: 1)
    let (held, answers, admissions) = (Answers(), Answers(), AdmissionControl(capacity: 9))
    ask(store, "a", into: held)
    #expect(eventually { held.names == ["a"] })
    let wait = ask(store, "b", into: answers, admissions: admissions)
    ask(store, "c", into: answers, admissions: admissions)
    #expect(admissions.waitingCount == 2)
    wait?.cancel()
    #expect(admissions.waitingCount == 1)
    wait?.cancel()
    #expect(admissions.waitingCount == 1)
    held.release("a")
    #expect(eventually { answers.names == ["c"] && admissions.waitingCount == 0 })
    #expect(eventually { store.state.withLock { $0.waiters.isEmpty && $0.reading.isEmpty } })
  }

  @Test func severalAdaptersComeTogetherOrNotAtAll() throws {
    let store = try store(room: 2)
    let answers = Answers()
    ask(store, "a", into: answers)
    ask(store, "b", into: answers)
    #expect(eventually { answers.names.count == 2 })
    ask(store, "c", "d", into: answers)
    ask(store, "d", "a", into: answers)
    answers.release("b")
    #expect(eventually { answers.names == ["a"] })
    #expect(store.memoryInUse.count <= 2, "room for one is not taken by one of two")
    answers.release("a")
    #expect(eventually { answers.names == ["c,d"] })
    answers.release("c,d")
    #expect(eventually { answers.names == ["d,a"] })
    // More than there is for all can never come.
    ask(store, "a", "b", "c", into: answers)
    #expect(answers.failures == [.overBudget])
  }
}
