#!/usr/bin/env bash
# etcd.sh SUITE DEST   Prints the path of a stock etcd, unpacked under DEST from the Debian suite named (bookworm: 3.4,
# trixie: 3.5) without touching the system's packages. Needs no root. A second call only prints.
set -euo pipefail
suite=$1
dest=$(mkdir -p "$2" && cd "$2" && pwd)
etcd=$dest/usr/bin/etcd
if [ -x "$etcd" ]; then
  echo "$etcd"
  exit 0
fi
apt=$dest/.apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
if [ -z "$mirror" ]; then
  echo "etcd.sh: apt knows no package lists yet; run 'apt-get update' once as root" >&2
  exit 1
fi
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
# Some users have no name; apt changes to another user only as root.
user=$(id -un 2>/dev/null || id -u)
options=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$user"
  -o Acquire::Languages=none -o Debug::NoLocking=1
  # A mirror that lags behind has an etcd that is signed all the same.
  -o Acquire::Check-Valid-Until=false)
echo "unpacking etcd from Debian $suite" >&2
apt-get "${options[@]}" -qq update >&2
(cd "$apt/debs" && apt-get "${options[@]}" -qq download "etcd-server/$suite" "etcd-client/$suite") >&2
for deb in "$apt"/debs/*.deb; do dpkg-deb -x "$deb" "$dest"; done
rm -rf "$apt"
echo "$etcd"
