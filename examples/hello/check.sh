#!/usr/bin/env bash
# check.sh: builds the component anew and checks that it behaves as the committed one does. Where no compiler with the
# target wasm32-wasip2 is at hand (rustup's, or the one RUSTC names), says so and checks the committed one alone.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

if "${RUSTC:-rustc}" --print target-libdir --target wasm32-wasip2 2>/dev/null | xargs -r ls >/dev/null 2>&1; then
    "$here/build.sh" "$built/hello.wasm"
    export HELLO_WASM=$built/hello.wasm
else
    echo "no target wasm32-wasip2: only the committed component is checked" >&2
fi
unset RUSTC
cargo test --quiet --manifest-path "$here/../../Cargo.toml" -p wasm --test children -- hello_does_what_its_readme_says
