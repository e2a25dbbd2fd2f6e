import Formats
import Logging
import Testing

@testable import Serve

/// What is wrong in a definition of a tool, a choice of tools or a form is named with its path.
@Suite struct ToolFieldsTests {
  private static let log = UnknownNameLog(Logger(label: "test"))
  private static let tool = #"{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}"#

  private static let other = #"{"type":"function","function":{"name":"other"}}"#

  private func error(_ json: String, _ catalog: FieldCatalog = .chat) throws -> APIError? {
    let fields = try RequestFields(Array(json.utf8), JSONLimits())
    do throws(APIError) {
      try catalog.check(fields, log: Self.log, path: "/")
      _ = try ToolFields(fields)
      _ = try ConstraintFields(fields)
      return nil
    } catch { return error }
  }

  @Test(arguments: [
    ("3", "tools[0]", "invalid_type"), (#"{"function":{"name":"f"}}"#, "tools[0].type", "invalid_value"),
    (#"{"type":"functio","function":{"name":"f"}}"#, "tools[0].type", "invalid_value"),
    (#"{"type":7,"function":{"name":"f"}}"#, "tools[0].type", "invalid_type"),
    (#"{"type":"function"}"#, "tools[0].function", "missing_required_parameter"),
    (#"{"type":"function","function":null}"#, "tools[0].function", "missing_required_parameter"),
    (#"{"type":"function","function":"f"}"#, "tools[0].function", "invalid_type"),
    (#"{"type":"function","functions":{"name":"f"}}"#, "tools[0].functions", "unknown_parameter"),
    (#"{"type":"function","function":{}}"#, "tools[0].function.name", "missing_required_parameter"),
    (#"{"type":"function","function":{"name":5}}"#, "tools[0].function.name", "invalid_type"),
    (#"{"type":"function","function":{"name":""}}"#, "tools[0].function.name", "invalid_value"),
    (
      #"{"type":"function","function":{"name":"f","description":{"a":1}}}"#, "tools[0].function.description",
      "invalid_type"
    ),
    (#"{"type":"function","function":{"name":"f","strict":"yes"}}"#, "tools[0].function.strict", "invalid_type"),
    (#"{"type":"function","function":{"name":"f","strict":1}}"#, "tools[0].function.strict", "invalid_type"),
    (#"{"type":"function","function":{"name":"f","parameters":[]}}"#, "tools[0].function.parameters", "invalid_type"),
    (#"{"type":"function","function":{"name":"f","parameters":"{}"}}"#, "tools[0].function.parameters", "invalid_type"),
    (
      #"{"type":"function","function":{"name":"f","parameter":{}}}"#, "tools[0].function.parameter", "unknown_parameter"
    ),
    (#"{"type":"function","function":{"name":"f","Strict":true}}"#, "tools[0].function.Strict", "unknown_parameter"),
  ])
  func aWrongDefinitionIsNamed(_ tool: String, _ param: String, _ code: String) throws {
    for (tools, path) in [(tool, param), ("\(Self.other),\(tool)", param.replacing("[0]", with: "[1]"))] {
      let error = try error(#"{"tools":[\#(tools)]}"#)
      #expect(error?.status == 400 && error?.param == path && error?.code == code, "\(error?.message ?? "none")")
      #expect(error?.message.contains("'\(path)'") == true, "\(error?.message ?? "none")")
    }
  }

  @Test func aNameComesOnce() throws {
    let error = try error(#"{"tools":[\#(Self.tool),{"type":"function","function":{"name":"g"}},\#(Self.tool)]}"#)
    #expect(error?.param == "tools[2].function.name" && error?.message.contains("'tools[0].function.name'") == true)
  }

  @Test func otherMembersAreAccepted() throws {
    let tool =
      #"{"type":"function","id":1,"function":{"name":"f","description":null,"parameters":true,"strict":null,"x":[]}}"#
    #expect(try error(#"{"tools":[\#(tool)]}"#) == nil)
    #expect(try error(#"{"tools":[]}"#) == nil)
  }

  @Test(arguments: [
    (#""requird""#, "tool_choice"), ("3", "tool_choice"), (#"{"type":"tool"}"#, "tool_choice"),
    (#"{"type":"function"}"#, "tool_choice.function"), (#"{"type":"function","function":"f"}"#, "tool_choice.function"),
    (#"{"type":"function","function":{"name":1}}"#, "tool_choice.function.name"),
    (#"{"type":"function","function":{"Names":"f"}}"#, "tool_choice.function.name"),
    (#"{"type":"function","functions":{"name":"f"}}"#, "tool_choice.functions"),
    (#"{"type":"allowed_tools"}"#, "tool_choice.allowed_tools"),
    (#"{"type":"allowed_tools","allowed_tool":{}}"#, "tool_choice.allowed_tool"),
    (#"{"type":"allowed_tools","allowed_tools":{"mode":"never"}}"#, "tool_choice.allowed_tools.mode"),
    (#"{"type":"allowed_tools","allowed_tools":{"mode":1}}"#, "tool_choice.allowed_tools.mode"),
    (#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#, "tool_choice.allowed_tools.tools"),
    (#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":["f"]}}"#, "tool_choice.allowed_tools.tools[0]"),
    (
      #"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":[]}}]}}"#,
      "tool_choice.allowed_tools.tools[0].function.name"
    ),
    (#"{"type":"function","function":{"name":"g"}}"#, "tool_choice"),
  ])
  func aWrongChoiceIsNamed(_ choice: String, _ param: String) throws {
    let error = try error(#"{"tools":[\#(Self.tool)],"tool_choice":\#(choice)}"#)
    #expect(error?.status == 400 && error?.param == param, "\(error?.message ?? "none")")
  }

  @Test(arguments: [
    (#""response_format":{"type":5}"#, "response_format.type"),
    (#""response_format":{"typ":"text"}"#, "response_format.type"),
    (#""response_format":{"type":"json_schema"}"#, "response_format.json_schema"),
    (#""response_format":{"type":"json_schema","json_schema":[]}"#, "response_format.json_schema"),
    (#""response_format":{"type":"json_schema","json_schema":{"name":"a"}}"#, "response_format.json_schema.schema"),
    (
      #""response_format":{"type":"json_schema","json_schema":{"schemas":{}}}"#, "response_format.json_schema.schemas"
    ),
    (
      #""response_format":{"type":"json_schema","json_schema":{"schema":{},"strict":"yes"}}"#,
      "response_format.json_schema.strict"
    ),
    (
      #""response_format":{"type":"json_schema","json_schema":{"schema":{},"name":1}}"#,
      "response_format.json_schema.name"
    ),
    (
      #""response_format":{"type":"json_schema","json_schema":{"schema":{},"description":{}}}"#,
      "response_format.json_schema.description"
    ),
    (#""response_format":{"type":"json_schema","json_shema":{"schema":{}}}"#, "response_format.json_shema"),
    (#""response_format":{"type":"text","json_schema":{"schema":{}}}"#, "response_format.json_schema"),
    (#""response_format":{"type":"json_object","json_schema":{"schema":{}}}"#, "response_format.json_schema"),
    (#""response_format":{"type":"json_schema","schema":{}}"#, "response_format.schema"),
    (#""structured_outputs":{"regex":5}"#, "structured_outputs.regex"),
    (#""structured_outputs":{"json_object":"yes"}"#, "structured_outputs.json_object"),
    (#""structured_outputs":{"regexp":"a"}"#, "structured_outputs.regexp"),
    (#""structured_outputs":{"whitespace_pattern":" "}"#, "structured_outputs.whitespace_pattern"),
    (#""functions":[{"name":"f"}]"#, "functions"), (#""functions":{"name":"f"}"#, "functions"),
    (#""function_call":"auto""#, "function_call"),
    (#""stream_options":{"includ_usage":true}"#, "stream_options.includ_usage"),
  ])
  func aWrongFormIsNamed(_ field: String, _ param: String) throws {
    let error = try error("{\(field)}")
    #expect(error?.status == 400 && error?.param == param, "\(error?.message ?? "none")")
  }

  /// A tool has its name beside its type there.
  @Test func membersOfResponsesAreCheckedToo() throws {
    for (field, param) in [
      (#""tools":[{"type":"function","name":"f","parameter":{}}]"#, "tools[0].parameter"),
      (#""text":{"format":{"type":"json_schema","schemas":{}}}"#, "text.format.schemas"),
      (#""text":{"formats":{}}"#, "text.formats"), (#""text":{"verbosity":"high"}"#, "text.verbosity"),
      (#""tool_choice":{"type":"allowed_tools","tool":[]}"#, "tool_choice.tool"),
    ] {
      #expect(try error("{\(field)}", .responses)?.param == param, "\(field)")
    }
  }
}
