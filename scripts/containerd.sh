#!/usr/bin/env bash
# containerd.sh SUITE DEST   Prints the path of a stock containerd of the Debian suite named (trixie: 1.7, forky: 2.x),
# unpacked under DEST, with its shim beside it.
exec "$(dirname "$0")/unpack.sh" "$1" "$2" containerd containerd
