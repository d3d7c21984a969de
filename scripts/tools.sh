#!/usr/bin/env bash
# tools.sh   Sees to what `make up` needs besides this repository: a Rust toolchain and a C compiler, which it names if they
# are missing; as root it installs the compiler, nftables and curl by apt. Prints the path of a kubectl: the machine's, or
# one that it unpacks beside the build.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo >/dev/null; then
  echo "tools.sh: there is no cargo on the PATH; install Rust as https://rustup.rs says" >&2
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  packages=(nftables curl)
  command -v cc >/dev/null || packages+=(gcc libc6-dev)
  scripts/packages.sh "${packages[@]}"
elif ! command -v cc >/dev/null; then
  echo "tools.sh: there is no C compiler; install it as root: apt-get install gcc libc6-dev" >&2
  exit 1
fi
command -v kubectl || scripts/kubectl.sh forky target/tools/kubectl
