import Foundation
import PackagePlugin

/// Writes a source file with the commit that is built, before every build. The file only changes if the commit does, so that
/// nothing else is built again.
@main struct ReadCommit: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: any Target) -> [Command] {
    [
      .prebuildCommand(
        displayName: "Reading the commit", executable: URL(filePath: "/bin/sh"),
        arguments: [
          context.package.directoryURL.appending(path: "scripts/package/write_commit.sh").path,
          context.pluginWorkDirectoryURL.path,
        ],
        outputFilesDirectory: context.pluginWorkDirectoryURL)
    ]
  }
}
