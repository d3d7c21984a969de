#!/usr/bin/env bash
# kubectl.sh SUITE DEST   Prints the path of a stock kubectl of the Debian suite named (trixie: 1.32, forky: 1.36), unpacked
# under DEST.
exec "$(dirname "$0")/unpack.sh" "$1" "$2" kubectl kubectl
