#!/usr/bin/env bash
# runc.sh SUITE DEST   Prints the path of a stock runc of the Debian suite named (forky: 1.3), unpacked under DEST. It is newer
# than this system's C library, and so is made to use the one of its own suite. Needs patchelf.
set -euo pipefail
dest=$(mkdir -p "$2" && cd "$2" && pwd)
if [ ! -x "$dest/runc" ]; then
  "$(dirname "$0")/unpack.sh" "$1" "$dest" runc runc libc6 libseccomp2 >/dev/null
  libraries=$dest/usr/lib/$(uname -m)-linux-gnu
  cp "$dest/usr/sbin/runc" "$dest/runc.new"
  patchelf --set-interpreter "$(echo "$libraries"/ld-linux-*.so.*)" --force-rpath --set-rpath "$libraries" "$dest/runc.new"
  mv "$dest/runc.new" "$dest/runc"
fi
echo "$dest/runc"
