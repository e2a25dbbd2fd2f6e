#!/usr/bin/env bash
# Makes a Debian package of a binary that has Swift's libraries in it. Prints the package's path.
# Usage: make_deb.sh BINARY FOLDER, with DEB_REVISION=1 and MAINTAINER="Name <address>" as settings.
set -euo pipefail
binary=$(realpath "${1:?BINARY is missing}") folder=${2:?FOLDER is missing}
cd "$(dirname "$0")/../.."
umask 022

version=$(scripts/package/version.sh)-${DEB_REVISION:-1}
architecture=$(dpkg --print-architecture)
maintainer=${MAINTAINER:-Graft maintainers <maintainers@graft.example>}
# The same commit gives the same files.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
strip --remove-section=.comment --remove-section=.note -o "$work/graft" "$binary"
ZSH_FUNCTIONS=vendor-completions scripts/install.sh "$work/graft" "$root/usr" >&2
gzip -9n "$root"/usr/share/man/man1/*.1
# bash reads completions; it does not run them.
sed -i '1{/^#!/d}' "$root/usr/share/bash-completion/completions/graft"
install -Dm644 packaging/systemd/graft.service "$root/lib/systemd/system/graft.service"
install -Dm644 packaging/systemd/graft.sysusers "$root/usr/lib/sysusers.d/graft.conf"
install -Dm644 packaging/config.yaml "$root/etc/graft/config.yaml"

documents=$root/usr/share/doc/graft
install -Dm644 packaging/debian/copyright "$documents/copyright"
gzip -9nc CHANGELOG.md >"$documents/changelog.gz"
cat >"$work/changelog" <<END
graft ($version) unstable; urgency=medium

  * Version ${version%-*}; /usr/share/doc/graft/changelog.gz says what changed.

 -- $maintainer  $(date -uR -d "@$SOURCE_DATE_EPOCH")
END
gzip -9nc "$work/changelog" >"$documents/changelog.Debian.gz"
install -Dm644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/graft"

mkdir -p "$root/DEBIAN"
install -m755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN"
echo /etc/graft/config.yaml >"$root/DEBIAN/conffiles"
(cd "$root" && find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\0' | sort -z | xargs -0 md5sum) \
  >"$root/DEBIAN/md5sums"

# dpkg-shlibdeps reads the names of the packages of a source folder.
mkdir "$work/debian"
printf 'Source: graft\n\nPackage: graft\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O -e"$root/usr/bin/graft" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "make_deb: dpkg-shlibdeps named no libraries" >&2; exit 1; }
sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" -e "s|@MAINTAINER@|$maintainer|" \
  -e "s/@DEPENDS@/$depends/" -e "s|@SIZE@|$(du -sk --exclude=DEBIAN "$root" | cut -f1)|" \
  packaging/debian/control.in >"$root/DEBIAN/control"

find "$root" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0r touch --no-dereference --date="@$SOURCE_DATE_EPOCH"
mkdir -p "$folder"
package=$folder/graft_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >&2
echo "$package"
