#!/usr/bin/env bash
# build.sh [OUTPUT]: builds the component, by default to hello.wasm beside this script.
#
# Needs a compiler with the target wasm32-wasip2: `rustup target add wasm32-wasip2`, or, where that cannot be used, set
# RUSTC to the one that tests/workloads/rust-sysroot.sh makes. Paths are remapped, so that the result says nothing of
# the machine it was built on.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/hello.wasm}
target=${CARGO_TARGET_DIR:-$here/guest/target}
home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$("${RUSTC:-rustc}" --print sysroot)

# A small stack, and room for the heap from the start: an instance is made for each request, and a memory that need not
# grow costs two system calls less in each.
memory="-Clink-arg=-zstack-size=131072 -Clink-arg=--initial-memory=524288"
export RUSTFLAGS="$memory --remap-path-prefix=$here=hello --remap-path-prefix=$home=cargo --remap-path-prefix=$sysroot=rust --remap-path-prefix=/usr/lib/rustlib=rust"
CARGO_TARGET_DIR=$target cargo build --quiet --release --locked --target wasm32-wasip2 --manifest-path "$here/guest/Cargo.toml"
cp "$target/wasm32-wasip2/release/hello.wasm" "$output"
