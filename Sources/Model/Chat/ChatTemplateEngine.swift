/// The joint to the template engine: a compiled template and its rendering.
struct ChatTemplateEngine: Sendable {
  init(_ source: String, name: String) throws(ModelError) {
    guard source.contains("SmolLM, trained by Hugging Face<|im_end|>") else {
      throw ModelError(name, "chat template", reason: "is not SmolLM's, the only one that is rendered yet")
    }
  }

  /// - Parameter variables: what the template sees, by name
  func render(_ variables: JSONObject) throws(ChatFormatError) -> String {
    var text = ""
    for (index, message) in (variables["messages"]?.array ?? []).enumerated() {
      let role = message.object?["role"]?.string ?? ""
      guard let content = message.object?["content"]?.string else { throw .failed("no content") }
      if index == 0, role != "system" {
        text +=
          "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
      }
      text += "<|im_start|>\(role)\n\(content)<|im_end|>\n"
    }
    if variables["add_generation_prompt"]?.bool == true { text += "<|im_start|>assistant\n" }
    return text
  }
}
