extension ConsolePage {
  /// All files but the page itself. SwiftPM makes `PackageResources` of the folder `Files`, without its subfolders' names.
  static let all: [ConsoleFile] = [
    // shell
    ConsoleFile("main.js", PackageResources.main_js),
    ConsoleFile("api.js", PackageResources.api_js),
    ConsoleFile("dom.js", PackageResources.dom_js),
    ConsoleFile("format.js", PackageResources.format_js),
    ConsoleFile("storage.js", PackageResources.storage_js),
    ConsoleFile("base.css", PackageResources.base_css),
    ConsoleFile("shell.css", PackageResources.shell_css),
    ConsoleFile("controls.css", PackageResources.controls_css),
    ConsoleFile("pages.css", PackageResources.pages_css),
    // chat
    ConsoleFile("chat.js", PackageResources.chat_js),
    ConsoleFile("conversations.js", PackageResources.conversations_js),
    ConsoleFile("answering.js", PackageResources.answering_js),
    ConsoleFile("sampling.js", PackageResources.sampling_js),
    ConsoleFile("picker.js", PackageResources.picker_js),
    ConsoleFile("turns.js", PackageResources.turns_js),
    ConsoleFile("logprobs.js", PackageResources.logprobs_js),
    ConsoleFile("chat.css", PackageResources.chat_css),
    // adapters
    ConsoleFile("adapters.js", PackageResources.adapters_js),
    ConsoleFile("adapter-details.js", PackageResources.adapter_details_js),
    ConsoleFile("compare.js", PackageResources.compare_js),
    ConsoleFile("upload.js", PackageResources.upload_js),
    ConsoleFile("zip.js", PackageResources.zip_js),
    // training
    ConsoleFile("training.js", PackageResources.training_js),
    ConsoleFile("job-form.js", PackageResources.job_form_js),
    ConsoleFile("job-view.js", PackageResources.job_view_js),
    ConsoleFile("job-data.js", PackageResources.job_data_js),
    ConsoleFile("preview.js", PackageResources.preview_js),
    ConsoleFile("estimate.js", PackageResources.estimate_js),
    ConsoleFile("samples.js", PackageResources.samples_js),
    ConsoleFile("overlay.js", PackageResources.overlay_js),
    ConsoleFile("training.css", PackageResources.training_css),
    // server
    ConsoleFile("server.js", PackageResources.server_js),
    ConsoleFile("metrics.js", PackageResources.metrics_js),
    ConsoleFile("chart.js", PackageResources.chart_js),
  ]
}
