import Foundation
import Testing

@testable import Formats
@testable import Serve

@Suite struct EmbeddingRunTests {
  /// More inputs than the engine gets at once. The loop hears of the first ones when the time is over; the others must not begin
  /// a time of their own.
  @Test func theTimeoutIsOneForAllInputs() throws {
    let setting = try AnswerSetting()
    let inputs = (0..<64).map { "[\($0 + 1)]" }.joined(separator: ",")
    let request = try setting.prepare(.embeddings, #"{"input": [\#(inputs)], "timeout": 2}"#)
    let (answer, answered) = (Box<(status: Int, body: [UInt8])>((0, [])), Flag())
    let (loop, context) = (setting.loop, setting.context)
    loop.execute {
      let target = BatchLineTarget(loop: loop) { status, body in
        answer.value = (status, body)
        answered.set()
      }
      do throws(APIError) { try request.run(for: target, client: ClientIdentity(), query: [], context: context) } catch
      {
        target.respond(error)
      }
      Thread.sleep(forTimeInterval: 2.5)
    }
    #expect(answered.wait())
    let (status, body) = answer.value
    #expect(status == 408, "\(String(decoding: body.prefix(200), as: UTF8.self))")
  }
}
