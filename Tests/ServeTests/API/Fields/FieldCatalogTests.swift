import Formats
import Logging
import Model
import Testing

@testable import Serve

/// No field that changes the answer is passed over without a word.
@Suite struct FieldCatalogTests {
  private static let log = UnknownNameLog(Logger(label: "test"))

  private func error(_ catalog: FieldCatalog, _ json: String) throws -> APIError? {
    let fields = try RequestFields(Array(json.utf8), JSONLimits())
    do throws(APIError) {
      try catalog.check(fields, log: Self.log, path: "/")
      return nil
    } catch { return error }
  }

  @Test func misspeltFieldsAreAskedAbout() throws {
    for (name, meant) in [
      ("temprature", "temperature"), ("Temperature", "temperature"), ("temperatrue", "temperature"),
      ("max-tokens", "max_tokens"), ("max_token", "max_tokens"), ("maxtokens", "max_tokens"), ("adapters", "adapter"),
      ("adaptor", "adapter"), ("modle", "model"), ("models", "model"), ("promt", "prompt"), ("prompts", "prompt"),
      ("top_logprob", "top_logprobs"), ("presence_penality", "presence_penalty"), ("steam", "stream"),
      ("guided_jsons", "guided_json"), ("metadta", "metadata"),
    ] {
      for catalog in [FieldCatalog.completions, .chat] {
        let error = try error(catalog, #"{"\#(name)": 1}"#)
        #expect(error?.status == 400 && error?.param == name, "\(name)")
        #expect(error?.message.contains("'\(meant)'") == true, "\(name): \(error?.message ?? "")")
      }
    }
  }

  @Test func othersAreAccepted() throws {
    for name in ["stp", "ns", "x", "my_own_field", "trace_context", "see", String(repeating: "temperature", count: 9)] {
      #expect(try error(.completions, #"{"\#(name)": 1}"#) == nil, "\(name)")
    }
    let many = "{" + (0..<300).map { #""field \#($0)": 0"# }.joined(separator: ",") + "}"
    #expect(try error(.chat, many)?.status == 400)
  }

  @Test func knownFieldsThatAreNotHonouredAreRefusedByName() throws {
    for (field, neutral) in [
      ("\"structural_tag\": {}", "\"structural_tag\": null"), ("\"grammar_lazy\": true", "\"grammar_lazy\": false"),
      ("\"mirostat\": 2", "\"mirostat\": 0"),
      ("\"spaces_between_special_tokens\": false", "\"spaces_between_special_tokens\": true"),
      ("\"n_predict\": 8", "\"n_predict\": null"),
      ("\"lora_path\": \"a\"", "\"lora_path\": null"), ("\"lora\": [{\"id\": 0}]", "\"lora\": []"),
      ("\"typical_p\": 0.9", "\"typical_p\": 1"), ("\"use_beam_search\": true", "\"use_beam_search\": false"),
    ] {
      for catalog in [FieldCatalog.completions, .chat] {
        let refusal = try error(catalog, "{\(field)}")
        #expect(refusal?.code == "unsupported_parameter" && refusal?.status == 400, "\(field)")
        #expect(try error(catalog, "{\(neutral)}") == nil, "\(neutral)")
      }
    }
    #expect(try error(.completions, #"{"max_completion_tokens": 5}"#)?.param == "max_completion_tokens")
    #expect(try error(.chat, #"{"prompt": "x"}"#)?.param == "prompt")
  }

  /// A chat's fields that responses do not have are refused, not ignored.
  @Test func responsesIgnoreNoFieldOfChats() throws {
    for (field, neutral) in [
      ("guided_json", "null"), ("best_of", "1"), ("skip_special_tokens", "true"), ("typical_p", "1"), ("n", "1"),
      ("prompt_logprobs", "null"), ("continue_final_message", "false"),
    ] {
      #expect(try error(.responses, #"{"\#(field)": "x"}"#)?.param == field)
      #expect(try error(.responses, #"{"\#(field)": \#(neutral)}"#) == nil)
    }
    let responses = FieldCatalog.responses
    let known = responses.honoured.union(responses.accepted).union(responses.refused.keys)
    #expect(FieldCatalog.chat.honoured.isSubset(of: known))
  }

  @Test func whatChangesNoAnswerIsAccepted() throws {
    for catalog in [FieldCatalog.completions, .chat] {
      let json =
        #"{"user":"u","store":true,"metadata":{"a":"b"},"service_tier":"flex","safety_identifier":"s","prompt_cache_key":"k","cache_prompt":true,"priority":3}"#
      #expect(try error(catalog, json) == nil)
    }
  }

  /// Every name that a catalog has is one that it does not take for a misspelling of another.
  @Test func catalogsDoNotContradictThemselves() {
    for catalog in [
      FieldCatalog.completions, .chat, .responses, .embeddings, .batch, .tokenize, .detokenize, .loadAdapter,
      .fineTuningJob,
    ] {
      #expect(catalog.honoured.isDisjoint(with: catalog.accepted))
      #expect(catalog.honoured.isDisjoint(with: catalog.refused.keys))
      #expect(catalog.accepted.isDisjoint(with: catalog.refused.keys))
    }
  }
}
