#!/usr/bin/env bash
# run.sh [CACHE]   Follows the README on a machine that has nothing: a bare Debian 12 with make, git, a C compiler
# and this user's Rust toolchain, in namespaces of its own. Clones this repository there, runs `make up`, pastes the lines it
# prints, runs `make down`, and fails if anything is left. Needs root, debootstrap, and a way to the package mirror.
#
# CACHE (default /var/tmp/wherry-clean-machine) keeps the Debian and what was built; remove it to begin from nothing.
# SEED_TARGET names a cargo target directory whose release dependencies are used instead of being built again.
set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
cache=${1:-/var/tmp/wherry-clean-machine}
mirror=${MIRROR:-http://deb.debian.org/debian}
netns=wherry-clean-$$
step() { printf '\033[1m--- %s\033[0m\n' "$*"; }

# Debian with what a Rust toolchain needs itself, and what gets the clone.
debian() {
  [ -e "$cache/debian/.complete" ] && return
  step "making a bare Debian 12"
  rm -rf "$cache/debian"
  debootstrap --variant=minbase --include=make,git,gcc,libc6-dev,ca-certificates bookworm "$cache/debian" "$mirror" \
    >"$cache/debootstrap.log"
  rm -f "$cache"/debian/var/cache/apt/archives/*.deb
  touch "$cache/debian/.complete"
}

# A network namespace that reaches the package mirror.
network() {
  local uplink
  uplink=$(ip -o route show default | sed -E 's/.* dev ([^ ]+).*/\1/;q')
  ip netns add "$netns"
  ip link add "wc$$" type veth peer name eth0 netns "$netns"
  ip address add 198.18.255.253/30 dev "wc$$"
  ip link set "wc$$" up
  ip -n "$netns" address add 198.18.255.254/30 dev eth0
  ip -n "$netns" link set lo up
  ip -n "$netns" link set eth0 up
  ip -n "$netns" route add default via 198.18.255.253
  nft "add table ip $netns; add chain ip $netns out { type nat hook postrouting priority 100; };
       add rule ip $netns out ip saddr 198.18.255.252/30 oifname $uplink masquerade"
}

remove_network() {
  nft delete table ip "$netns" 2>/dev/null || true
  ip netns delete "$netns" 2>/dev/null || true
}

# Lays a directory of this machine over the new one at the same path, as cargo remembers paths; what is written stays there.
lay() {
  local lower=$1 upper=$2
  mkdir -p "$root$lower" "$upper" "$work$lower"
  mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work$lower" "$root$lower"
}

# Runs in the new mount namespace: puts the machine together and boots it.
machine() {
  local toolchain cargo=${CARGO_HOME:-$HOME/.cargo} target=${SEED_TARGET:-/root/target}
  # With other settings cargo would build the seed's dependencies again.
  mapfile -t settings < <(env | grep -E '^(CARGO_[A-Z_]*|RUSTC_BOOTSTRAP)=')
  root=$cache/root work=$cache/work
  toolchain=$(cd "$repository" && rustc --print sysroot)
  rm -rf "$work"
  mkdir -p "$root" "$work"/{upper,overlay}
  mount -t overlay overlay -o "lowerdir=$cache/debian,upperdir=$work/upper,workdir=$work/overlay" "$root"
  mkdir -p "$root/src" "$root$toolchain" "$root$target" "$cache/target"
  mount --bind -o ro "$repository" "$root/src"
  mount --bind -o ro "$toolchain" "$root$toolchain"
  lay "$cargo" "$work/cargo"
  if [ -n "${SEED_TARGET:-}" ]; then
    lay "$target" "$cache/target"
  else
    mount --bind "$cache/target" "$root$target"
  fi
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  cp "$repository/scripts/clean-machine/user.sh" "$root/root/user.sh"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  exec nsenter --net="/run/netns/$netns" unshare --pid --fork --kill-child --mount-proc="$root/proc" \
    chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
    PATH="$toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    "${settings[@]}" CARGO_HOME="$cargo" CARGO_TARGET_DIR="$target" bash /root/user.sh
}

if [ "${INSIDE:-}" = machine ]; then
  netns=$NETNS
  machine
fi
mkdir -p "$cache"
debian
trap remove_network EXIT
network
INSIDE=machine NETNS=$netns unshare --mount --propagation private "$0" "$cache"
