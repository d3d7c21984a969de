#!/usr/bin/env bash
# etcd.sh SUITE DEST   Prints the path of a stock etcd of the Debian suite named (bookworm: 3.4, trixie: 3.5), unpacked under
# DEST, with etcdctl beside it.
exec "$(dirname "$0")/unpack.sh" "$1" "$2" etcd etcd-server etcd-client
