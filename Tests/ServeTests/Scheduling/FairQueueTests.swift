import Model
import Testing

@testable import Serve

/// What clients have had is remembered while they pause.
@Suite struct FairQueueTests {
  private func key(_ client: String, _ adapter: UInt64 = 0) -> StreamKey {
    StreamKey(client: ClientIdentity(address: client), adapters: PrefixKey(.none, group: adapter))
  }

  /// A request from its arrival to its end.
  private func serve(_ queue: inout FairQueue, _ key: StreamKey, rows: Int, at time: Duration) {
    let stream = queue.open(key, now: time)
    queue.charge(stream, rows: rows)
    queue.close(stream, now: time)
  }

  /// What a client has had when its next request comes.
  private func service(_ queue: inout FairQueue, _ key: StreamKey, at time: Duration) -> Int {
    let stream = queue.open(key, now: time)
    return queue.service(stream).client
  }

  @Test func oneThatSendsOneRequestAtATimePaysForWhatItUsed() {
    var queue = FairQueue()
    for second in 0..<20 { serve(&queue, key("greedy"), rows: 100, at: .seconds(second)) }
    let other = queue.open(key("other"), now: .seconds(20))
    queue.charge(other, rows: 50)
    let greedy = queue.open(key("greedy"), now: .seconds(20))
    #expect(queue.service(greedy).client == 2000)
    queue.wait(GenerationID(value: 1), in: greedy)
    queue.wait(GenerationID(value: 2), in: other)
    #expect(queue.next { _ in true } == GenerationID(value: 2), "though it came later")
  }

  /// The larger of what it had used and the least that an active client has used.
  @Test func aReturnEarnsNoCredit() {
    var queue = FairQueue()
    serve(&queue, key("a"), rows: 10, at: .zero)
    let busy = queue.open(key("busy"), now: .zero)
    let busier = queue.open(key("busier"), now: .zero)
    queue.charge(busy, rows: 500)
    queue.charge(busier, rows: 900)
    #expect(service(&queue, key("a"), at: .seconds(1)) == 500)
    #expect(service(&queue, key("new"), at: .seconds(1)) == 500)
  }

  @Test func tenMinutesLaterItIsForgotten() {
    var queue = FairQueue()
    serve(&queue, key("a"), rows: 1000, at: .zero)
    serve(&queue, key("b"), rows: 1000, at: .zero)
    #expect(service(&queue, key("a"), at: .seconds(600)) == 1000)
    #expect(service(&queue, key("b"), at: .seconds(601)) == 1000, "the least of the active ones")
    var alone = FairQueue()
    serve(&alone, key("b"), rows: 1000, at: .zero)
    #expect(service(&alone, key("b"), at: .seconds(601)) == 0)
  }

  @Test func adaptersOfAClientAreRememberedAlike() {
    var queue = FairQueue()
    serve(&queue, key("a", 1), rows: 300, at: .zero)
    let second = queue.open(key("a", 2), now: .seconds(1))
    let first = queue.open(key("a", 1), now: .seconds(1))
    #expect(queue.service(first).stream == 300 && queue.service(second).stream == 0)
    #expect(queue.service(first).client == 300)
  }

  @Test func manyShortLivedClientsAreBounded() {
    var book = AccountBook<Int>()
    for client in 0..<100_000 {
      let index = book.open(client, now: .milliseconds(client)) { _ in true }
      book.charge(index, rows: 1)
      let isLast = book.close(index, now: .milliseconds(client))
      #expect(isLast)
    }
    #expect(book.inactiveCount <= AccountBook<Int>.maximumKept && book.activeCount == 0 && book.active.count == 1)
    // Those that left last are the ones that are kept.
    let last = book.open(99_999, now: .seconds(100)) { _ in true }
    #expect(book.service(last) == 1)
  }
}
