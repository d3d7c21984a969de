#!/usr/bin/env bash
# deny.sh   Checks dependencies against deny.toml: what is banned, licences, sources, and known vulnerabilities where their
# database can be reached. Without cargo-deny it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
  echo "dependencies are not checked: cargo-deny is missing (cargo install cargo-deny --locked)" >&2
  exit 0
fi
cargo deny check bans licenses sources
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
  cargo deny check advisories
else
  echo "advisories are not checked: their database cannot be reached" >&2
fi
