#!/usr/bin/env bash
# web-ui.sh [tests]   Builds the dashboard into web-ui/dist, for the binary to hold, and with `tests` sees to what its tests
# need. Where there is no fitting Node.js, or its packages cannot be had, it says so and goes on: the binary then serves a page
# that says how to add the dashboard. CI gets no such mercy.
set -euo pipefail
cd "$(dirname "$0")/../web-ui"
# The oldest Node.js that Vite runs on.
fits='const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
without() {
  echo "web-ui.sh: $1, so this build has no dashboard" >&2
  [ -z "${CI:-}" ]
  exit
}
current() {
  [ -e dist/index.html ] &&
    [ -z "$(find src public scripts index.html vite.config.ts svelte.config.js package-lock.json -newer dist/index.html ! -name '*.test.ts' -print -quit)" ]
}
# Nothing is installed or built again while nothing has changed.
mark=node_modules/.wherry
installed() {
  [ -e "$mark" ] && [ ! package-lock.json -nt "$mark" ]
}
if current && { [ "${1:-}" != tests ] || installed; }; then exit 0; fi
if ! command -v npm >/dev/null || ! node -e "$fits" 2>/dev/null; then without "there is no Node.js 20.19 or newer"; fi
if ! installed; then
  npm ci --no-audit --no-fund --loglevel=error >&2 || without "its packages cannot be installed"
  touch "$mark"
fi
current || npm run --silent build >&2
