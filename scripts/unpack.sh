#!/usr/bin/env bash
# unpack.sh SUITE DEST PROGRAM PACKAGE...   Prints the path of a program, unpacked under DEST from packages of the Debian suite
# named, without touching the system's. Needs no root. A second call only prints.
set -euo pipefail
suite=$1
dest=$(mkdir -p "$2" && cd "$2" && pwd)
program=$dest/usr/bin/$3
shift 3
if [ -x "$program" ]; then
  echo "$program"
  exit 0
fi
apt=$dest/.apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
if [ -z "$mirror" ]; then
  echo "unpack.sh: apt knows no package lists yet; run 'apt-get update' once as root" >&2
  exit 1
fi
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
# Some users have no name; apt changes to another user only as root.
user=$(id -un 2>/dev/null || id -u)
options=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$user"
  -o Acquire::Languages=none -o Debug::NoLocking=1
  # What a mirror that lags behind has is signed all the same.
  -o Acquire::Check-Valid-Until=false)
echo "unpacking $* from Debian $suite" >&2
apt-get "${options[@]}" -qq update >&2
(cd "$apt/debs" && apt-get "${options[@]}" -qq download "${@/%//$suite}") >&2
for deb in "$apt"/debs/*.deb; do dpkg-deb -x "$deb" "$dest"; done
rm -rf "$apt"
echo "$program"
