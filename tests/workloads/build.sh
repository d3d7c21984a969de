#!/usr/bin/env bash
# build.sh: builds probe.wasm, the guest that needs a toolchain: rustup's target wasm32-wasip2, or RUSTC from
# rust-sysroot.sh. Paths are remapped, so that the result says nothing of the machine it was built on.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/probe/target}
home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="--remap-path-prefix=$here=workloads --remap-path-prefix=$home=cargo"
CARGO_TARGET_DIR=$target cargo build --quiet --release --locked --target wasm32-wasip2 --manifest-path "$here/probe/Cargo.toml"
cp "$target/wasm32-wasip2/release/probe.wasm" "$here/probe.wasm"
