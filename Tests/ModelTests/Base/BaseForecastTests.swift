import Formats
import Foundation
import Kernels
import Model
import TestSupport
import Testing

/// What `graft prepare --dry-run` says, against prepared files and mapped bases.
@Suite struct BaseForecastTests {
  @Test(arguments: ["llama-biases", "phi3", "olmo2", "gemma3"], [ComputeMode.f32, .fast])
  func itIsWhatAPreparedBaseHas(name: String, mode: ComputeMode) throws {
    let fixture = try ArchitectureFixture(name)
    let source = try fixture.source()
    let forecast = try BaseForecast(
      source.config, storage: source.storage, mode: mode, contextLength: 64, threads: 1)
    let (base, location) = try fixture.store.open(source, mode: mode, pool: ThreadPool(threads: 1))
    #expect(forecast.preparedBytes == (try Data(contentsOf: location)).count)
    let config = source.config
    let sizes = fixture.tensorNames.compactMap { source.shape(of: $0) }
    let vectors = sizes.filter { $0.count == 1 }.reduce(0) { $0 + 4 * $1[0] }
    #expect(forecast.weightBytes >= base.bytesPerToken)
    // Biases are padded to whole groups of 16 rows, of which a layer has at most seven.
    #expect(forecast.weightBytes <= base.bytesPerToken + vectors + config.layerCount * 7 * 64)
    let cache = try KeyValueCache(config: config, bytes: 1, element: mode.keyValueElement)
    #expect(forecast.cacheBytes == 2 * cache.bytesPerBlock)
    #expect(forecast.parameters == sizes.reduce(0) { $0 + $1.reduce(1, *) })
  }

  @Test func aConfigurationIsEnough() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    let file = try folder.write(
      "config.json",
      """
      {"model_type":"llama","vocab_size":128256,"hidden_size":16384,"intermediate_size":53248,"num_hidden_layers":126,\
      "num_attention_heads":128,"num_key_value_heads":8,"max_position_embeddings":131072,"rope_theta":500000.0}
      """)
    for url in [folder.url, file] {
      let (config, storage) = try openConfiguration(at: url)
      let forecast = try BaseForecast(config, storage: storage, mode: .fast, contextLength: 2048, threads: 2)
      #expect(forecast.parameters == 405_853_388_800)
      // Half a byte of codes and two bytes of scale for each 64 weights, and the head in bytes.
      #expect((200 << 30..<204 << 30).contains(forecast.weightBytes))
      #expect(forecast.preparedBytes > forecast.weightBytes && forecast.preparingBytes < 2 << 30)
    }
  }

  /// The sizes of Llama 3.1's smallest, whose head is not tied.
  @Test func eightBillionFitIntoFiveGibibytes() throws {
    var config = try #require(ModelConfig.published("8b"))
    config.tiedHead = false
    let forecast = try BaseForecast(config, mode: .fast, contextLength: 2048, threads: 2)
    #expect(forecast.servingBytes < 5 << 30 && forecast.preparingBytes < 512 << 20)
  }
}
