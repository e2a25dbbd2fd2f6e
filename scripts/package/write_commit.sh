#!/bin/sh
# Writes Commit.swift, with the commit that is built, into a folder, unless it says the same already. SwiftPM runs this before
# every build. Usage: write_commit.sh FOLDER
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd -P)
folder=${1:?FOLDER is missing}

# `git archive` puts the commit into this file. In a clone it has a placeholder.
commit=$(cut -c 1-12 "$root/scripts/package/commit.txt" 2>/dev/null || true)
case $commit in
  *[!0-9a-f]* | '')
    commit=
    # An unpacked archive may lie in a folder of another repository, whose commit means nothing here.
    top=$(git -C "$root" rev-parse --show-toplevel 2>/dev/null || true)
    if [ "$top" = "$root" ] && commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null); then
      git -C "$root" diff --quiet HEAD -- Sources Package.swift 2>/dev/null || commit="$commit, changed"
    fi
    ;;
esac

new="$folder/Commit.swift.new"
cat >"$new" <<END
/// The commit that was built; empty if the sources came without one.
let builtCommit = "$commit"
END
if cmp -s "$new" "$folder/Commit.swift"; then rm "$new"; else mv "$new" "$folder/Commit.swift"; fi
