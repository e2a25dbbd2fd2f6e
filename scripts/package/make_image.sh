#!/usr/bin/env bash
# Makes an OCI image of a Debian package, without a container engine: an archive that podman, skopeo and docker load.
# Prints the archive's path. Needs root. Usage: make_image.sh PACKAGE FOLDER
set -euo pipefail
package=$(realpath "${1:?PACKAGE is missing}") folder=${2:?FOLDER is missing}
version=$(dpkg-deb -f "$package" Version)
mkdir -p "$folder"
folder=$(realpath "$folder")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A root with the package's dependencies, of which the first alternatives are taken; without a package manager's lists.
depends=$(dpkg-deb -f "$package" Depends | sed -E 's/ *\([^)]*\)//g; s/ *\|[^,]*//g; s/, */,/g; s/,systemd$/,systemd-standalone-sysusers/')
mmdebstrap --quiet --variant=essential --include="$depends,ca-certificates" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="cp '$package' \"\$1/tmp/graft.deb\"" \
  --customize-hook='chroot "$1" dpkg --install /tmp/graft.deb >&2' --customize-hook='rm "$1/tmp/graft.deb"' \
  bookworm "$work/root.tar" http://deb.debian.org/debian

umoci init --layout "$work/layout"
umoci new --image "$work/layout:$version"
umoci unpack --image "$work/layout:$version" "$work/bundle" >&2
tar -xf "$work/root.tar" -C "$work/bundle/rootfs" --numeric-owner
rm -rf "$work/bundle/rootfs/dev"
user=$(awk -F: '$1 == "graft" { print $3 ":" $4 }' "$work/bundle/rootfs/etc/passwd")
umoci repack --image "$work/layout:$version" "$work/bundle" >&2
# A container is reached from outside, so the server listens beyond loopback; it then demands GRAFT_API_KEY.
umoci config --image "$work/layout:$version" --config.user "$user" --config.workingdir /var/lib/graft \
  --config.entrypoint /usr/bin/graft --config.cmd serve --config.exposedports 8080/tcp \
  --config.volume /var/lib/graft --config.stopsignal SIGTERM \
  --config.env PATH=/usr/bin:/bin --config.env GRAFT_HOST=0.0.0.0 --config.env GRAFT_PORT=8080 \
  --config.env GRAFT_DATA_DIR=/var/lib/graft \
  --config.label org.opencontainers.image.title=graft --config.label "org.opencontainers.image.version=$version" \
  --config.label org.opencontainers.image.licenses=Apache-2.0 >&2

archive=$folder/graft_${version}.oci.tar
rm -f "$archive"
skopeo --insecure-policy copy --quiet "oci:$work/layout:$version" "oci-archive:$archive:graft:$version" >&2
echo "$archive"
