#!/usr/bin/env bash
# pictures.sh   Takes the screenshots that the browser's tests left in web-ui/artifacts into docs/images, light and dark, made
# small. Run `cargo test -p e2e --test dashboard` first.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/packages.sh pngquant
# Name in the README, and the artifact that it is.
for pair in overview=cluster pods=pods deployment=deployment graph=graph-ingress pod=pod wasm=wasm logs=logs-several terminal=terminal \
  node=node drain=drain-before diff=diff yaml=yaml-completion access=access deploy=deploy-review palette=palette-objects \
  cronjob=cronjob sign-in=sign-in-issuer phone=phone; do
  for theme in light dark; do
    from=web-ui/artifacts/${pair#*=}-$theme.png
    [ -e "$from" ] || { echo "pictures.sh: $from is not there; run the browser's tests" >&2; exit 1; }
    pngquant --force --strip --speed 1 --output "docs/images/${pair%=*}-$theme.png" 96 "$from"
  done
done
