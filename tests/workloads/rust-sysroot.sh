#!/usr/bin/env bash
# rust-sysroot.sh DIR: makes DIR/bin/rustc, a compiler that knows wasm32-wasip1 and wasm32-wasip2.
#
# For machines where `rustup target add wasm32-wasip2` cannot be used. Takes the compiler, the library's source, the
# linker and the C library from Debian packages (installed when root and missing) and builds Rust's std once: about
# 100 s of CPU. Afterwards: RUSTC=DIR/bin/rustc cargo build --release --target wasm32-wasip2
set -euo pipefail

dir=${1:?usage: rust-sysroot.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
host=x86_64-unknown-linux-gnu
targets="wasm32-wasip1 wasm32-wasip2"

complete() {
    [ -x "$dir/bin/rustc" ] || return 1
    for target in $targets; do
        ls "$dir/lib/rustlib/$target/lib/"libstd-*.rlib >/dev/null 2>&1 || return 1
    done
}

packages() {
    [ -e /usr/lib/rustlib/src/rust/library/Cargo.toml ] && [ -e /usr/lib/llvm-22/bin/lld ] &&
        [ -e /usr/lib/wasm32-wasi/libc.a ] && return
    [ "$(id -u)" = 0 ] || { echo "install rustc-web rust-web-src lld-22 wasi-libc first, or run as root" >&2; exit 1; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web rust-web-src lld-22 wasi-libc
}

# Debian's compiler, seen through a sysroot of our own that has the targets' libraries and linkers as well.
wrapper() {
    mkdir -p "$dir/bin" "$dir/lib/rustlib/$host/bin"
    ln -sfn "/usr/lib/rustlib/$host/lib" "$dir/lib/rustlib/$host/lib"
    ln -sfn /usr/lib/llvm-22/bin/lld "$dir/lib/rustlib/$host/bin/rust-lld"
    ln -sfn "$(rustc --print sysroot)/lib/rustlib/$host/bin/wasm-component-ld" "$dir/lib/rustlib/$host/bin/wasm-component-ld"
    printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot %s "$@"\n' "$dir" >"$dir/bin/rustc"
    chmod +x "$dir/bin/rustc"
}

# std for one target: built by way of an empty crate, its libraries copied into the sysroot.
std() {
    (cd "$work" && RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
        cargo build -q -Zbuild-std=std,panic_abort --release --target "$1")
    local lib=$dir/lib/rustlib/$1/lib
    mkdir -p "$lib/self-contained"
    cp "$work/target/$1"/release/deps/*.rlib "$lib/"
    rm -f "$lib"/libempty-*.rlib
    cp /usr/lib/wasm32-wasi/{crt1-command.o,crt1-reactor.o,libc.a} "$lib/self-contained/"
}

complete && exit 0
packages
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$work/Cargo.toml"
echo '#![no_std]' >"$work/src/lib.rs"
wrapper
for target in $targets; do std "$target"; done
