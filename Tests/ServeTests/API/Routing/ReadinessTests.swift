import Testing

@testable import Serve

@Suite(.serialized) struct ReadinessTests {
  @Test func requestsComeInOnceItIsReady() throws {
    let readiness = Readiness()
    let server = try HTTPTestServer(handler: readiness.handler)
    let client = try server.client()
    for target in ["/ready", "/health", "/hello"] {
      let response = try client.get(target)
      #expect(response.status == 503 && response.headers["retry-after"] != nil, "\(target)")
    }
    readiness.open(standardHandler)
    #expect(try client.get("/ready").status == 200)
    #expect(try client.get("/hello").text == "hello")
    try client.send("POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    #expect(try client.receiveResponse().status == 404)
    readiness.stop()
    #expect(try client.get("/ready").status == 503)
    #expect(try client.get("/hello").text == "hello", "what still comes is served")
    readiness.open(standardHandler)
    #expect(try client.get("/ready").status == 503, "there is no way back")
  }

  @Test func aHungEngineIsNotReady() throws {
    let readiness = Readiness()
    let server = try HTTPTestServer(handler: readiness.handler)
    let reason = Box<String?>(nil)
    readiness.open(standardHandler) { reason.value }
    let client = try server.client()
    #expect(try client.get("/ready").status == 200)
    reason.value = "it hangs"
    let response = try client.get("/ready")
    #expect(response.status == 503 && response.text.contains("it hangs"))
    #expect(try client.get("/hello").status == 200)
    reason.value = nil
    #expect(try client.get("/ready").status == 200)
  }

  @Test func oneThatStopsWhileItStartsLetsNobodyIn() throws {
    let readiness = Readiness()
    readiness.stop()
    readiness.open(standardHandler)
    let server = try HTTPTestServer(handler: readiness.handler)
    #expect(try server.client().get("/hello").status == 503)
  }
}
