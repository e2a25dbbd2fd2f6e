#!/usr/bin/env bash
# Installs the binary, its completions for bash, zsh and fish, and its manual pages. Usage: scripts/install.sh BINARY PREFIX
# ZSH_FUNCTIONS is zsh's folder below PREFIX/share, vendor-completions in a Debian package.
set -euo pipefail
binary=${1:?BINARY is missing} prefix=${2:?PREFIX is missing}

install -Dm755 "$binary" "$prefix/bin/graft"
completions() {
  mkdir -p "$(dirname "$prefix/share/$2")"
  "$binary" --generate-completion-script "$1" >"$prefix/share/$2"
  chmod 644 "$prefix/share/$2"
}
completions bash bash-completion/completions/graft
completions zsh "zsh/${ZSH_FUNCTIONS:-site-functions}/_graft"
completions fish fish/vendor_completions.d/graft.fish
mkdir -p "$prefix/share/man/man1"
"$binary" manual --output "$prefix/share/man/man1"
chmod 644 "$prefix"/share/man/man1/graft*.1
echo "Installed in $prefix"
