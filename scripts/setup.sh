#!/usr/bin/env bash
# Installs the Debian packages that the build and the tests need, where they are missing, and makes the Python environment.
# Does nothing, quickly, when everything is there. Usage: scripts/setup.sh packages|python|conformance|browser|shells|packaging|image
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.build-venv
requirements=(Tests/Conformance/requirements.txt Tests/Console/requirements.txt)

# Prints the Debian package of everything that the build needs and that is missing.
missing_packages() {
  missing_commands git pkg-config
  local library
  for library in libevent_openssl=libevent-dev libssl=libssl-dev libpcre2-8=libpcre2-dev libxxhash=libxxhash-dev zlib=zlib1g-dev \
    sqlite3=libsqlite3-dev yaml-0.1=libyaml-dev libedit=libedit-dev openblas=libopenblas-dev; do
    pkg-config --exists "${library%%=*}" 2>/dev/null || echo "${library#*=}"
  done
  [ -e /usr/include/simde/x86/avx512.h ] || echo libsimde-dev
  python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || echo python3-venv
}

# Prints the Debian package of each command that is missing. Arguments: commands, with "=package" where that has another name.
missing_commands() {
  local command
  for command; do command -v "${command%%=*}" >/dev/null || echo "${command#*=}"; done
}

# The browser that the console's tests drive.
missing_browser() { missing_commands chromium; }

packages() {
  if ! command -v swift >/dev/null; then
    echo "setup: there is no 'swift' on the PATH; install Swift 6.1 or newer from https://www.swift.org/install" >&2
    exit 1
  fi
  install missing_packages
}

browser() { install missing_browser; }

# The shells whose completions are tested.
missing_shells() { missing_commands zsh fish; }

shells() { install missing_shells; }

# What Debian packages are made and checked with. Swift's libraries need curl's.
missing_packaging() {
  missing_commands dpkg-shlibdeps=dpkg-dev mmdebstrap lintian strace systemd-nspawn=systemd-container
  pkg-config --exists libcurl || echo libcurl4-openssl-dev
}

packaging() { install missing_packaging; }

missing_image() { missing_commands umoci skopeo; }

image() { install missing_image; }

# Installs what the given function prints.
install() {
  local missing
  mapfile -t missing < <("$1")
  [ "${#missing[@]}" -eq 0 ] && return
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then root=(sudo); else root=(false); fi
  fi
  if ! command -v apt-get >/dev/null || [ "${root[*]-}" = false ]; then
    echo "setup: these Debian packages are missing and cannot be installed from here:" >&2
    echo "    apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "Installing ${missing[*]}"
  local command=(${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq
    --no-install-recommends "${missing[@]}")
  # The package lists may be missing or old.
  "${command[@]}" </dev/null >/dev/null 2>&1 || {
    ${root[@]+"${root[@]}"} apt-get update -qq </dev/null
    "${command[@]}" </dev/null >/dev/null
  }
  mapfile -t missing < <("$1")
  if [ "${#missing[@]}" -ne 0 ]; then
    echo "setup: still not found after installing: ${missing[*]}" >&2
    exit 1
  fi
}

# The environment, with pip alone.
python() {
  "$venv/bin/python" -c 'import pip' 2>/dev/null || {
    rm -rf "$venv"
    python3 -m venv "$venv"
  }
}

# What the conformance suite and the console's tests import; the copy of the requirements says what is installed.
conformance() {
  python
  cat "${requirements[@]}" | cmp -s - "$venv/requirements.txt" || {
    echo "Installing the Python packages of the tests"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]/#/-r}" </dev/null
    cat "${requirements[@]}" >"$venv/requirements.txt"
  }
}

case "${1-}" in
  packages | python | conformance | browser | shells | packaging | image) "$1" ;;
  *)
    echo "usage: scripts/setup.sh packages|python|conformance|browser|shells|packaging|image" >&2
    exit 2
    ;;
esac
