#!/usr/bin/env bash
# user.sh   What a new user does, in the order of the README, on the machine that run.sh makes.
set -euo pipefail
step() { printf '\033[1m--- %s (%s s)\033[0m\n' "$*" "$SECONDS"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

for tool in kubectl nft ip curl; do
  ! command -v $tool >/dev/null || fail "this machine has $tool already"
done
git config --global --add safe.directory '*'
step "clone"
git clone --quiet /src /root/wherry
cd /root/wherry
links() { (cd /sys/class/net && echo *); }
before=$(links)

step "make up"
make up | tee /root/up.log
mapfile -t pasted < <(sed -n 's/^  //p' /root/up.log)
[ "${#pasted[@]}" = 2 ] || fail "make up printed ${#pasted[@]} lines to paste"
for line in "${pasted[@]}"; do
  step "$line"
  bash -c "$line"
done
node_port=$(sed -nE 's,.*(http://127\.0\.0\.1:[0-9]+/).*,\1,p' /root/up.log)
step "curl $node_port"
curl -sS --fail "$node_port"
step "make up again"
make up >/dev/null

mapfile -t groups < <(sed -n 's,^[0-9]*:\([^:]*\):\(.*/wherry-.*\),/sys/fs/cgroup/\1\2,p' /proc/[0-9]*/cgroup | sort -u)
step "make down"
make down
for process in /proc/[0-9]*; do
  case $(readlink "$process/exe" || true) in *wherry*) fail "${process#/proc/} still runs" ;; esac
done
for group in "${groups[@]}"; do [ ! -d "$group" ] || fail "$group is left"; done
! grep -q ' /run/wherry' /proc/self/mounts || fail "a network namespace is left: $(grep /run/wherry /proc/self/mounts)"
[ -z "$(nft list tables)" ] || fail "tables are left: $(nft list tables)"
[ "$(links)" = "$before" ] || fail "links are left: $(links)"
step "what the tests need is installed"
sed '/^cargo/,$d' scripts/test.sh >/tmp/install.sh
sed -i 's,cd "$(dirname "$0")/..",cd /root/wherry,' /tmp/install.sh
bash /tmp/install.sh
step "make up, in a directory that was down, and down"
make up >/dev/null
curl -sS --fail "$node_port"
make down
step "all is well"
