#!/usr/bin/env bash
# test.sh   Installs what the tests need, builds, and runs every test. The script that CI runs.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" = 0 ]; then
  scripts/packages.sh nftables iproute2 curl systemd docker-registry openssl skopeo
  scripts/packages.sh containerd runc containernetworking-plugins iptables busybox-static patchelf
  # Makes journals for the tests of node logs.
  scripts/packages.sh systemd-journal-remote
  # A client of the container runtime interface that is not ours.
  scripts/packages.sh python3-grpcio python3-protobuf protobuf-compiler
  # The toolchains of docs/guests.md that are not installed by its own commands.
  scripts/packages.sh clang-22 lld-22 wasi-libc libclang-rt-22-dev-wasm32
  command -v npm >/dev/null || scripts/packages.sh nodejs npm
  # The dashboard's tests.
  [ -x /usr/bin/chromium ] || scripts/packages.sh chromium fonts-dejavu-core
  python3 -m ensurepip --version >/dev/null 2>&1 || scripts/packages.sh python3 python3-venv
fi
export WHERRY_KUBECTL_1_32 WHERRY_KUBECTL_1_36
WHERRY_KUBECTL_1_32=$(scripts/kubectl.sh trixie target/tools/kubectl-1.32)
WHERRY_KUBECTL_1_36=$(scripts/kubectl.sh forky target/tools/kubectl-1.36)
export WHERRY_ETCD_3_4 WHERRY_ETCD_3_5
WHERRY_ETCD_3_4=$(scripts/etcd.sh bookworm target/tools/etcd-3.4)
WHERRY_ETCD_3_5=$(scripts/etcd.sh trixie target/tools/etcd-3.5)
export WHERRY_CONTAINERD_1_7 WHERRY_CONTAINERD_2
WHERRY_CONTAINERD_1_7=$(scripts/containerd.sh trixie target/tools/containerd-1.7)
WHERRY_CONTAINERD_2=$(scripts/containerd.sh forky target/tools/containerd-2)
if command -v patchelf >/dev/null; then
  WHERRY_RUNC=$(scripts/runc.sh forky target/tools/runc)
  export WHERRY_RUNC
fi
scripts/web-ui.sh tests
if [ -e web-ui/node_modules/.wherry ]; then
  npm --prefix web-ui run --silent check
  npm --prefix web-ui test
fi
cargo fmt --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
scripts/deny.sh
# All targets at once: the features are then those of the tests, and nothing is built twice.
cargo build --workspace --all-targets
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace --no-fail-fast
else
  cargo test --workspace --no-fail-fast
fi
