#!/usr/bin/env bash
# up.sh BINARY DATA_DIR API_BIND   Starts a one-machine cluster in the background, deploys examples/hello and says how to
# use both. A cluster that already runs on DATA_DIR is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1 data=$2 bind=$3
kubeconfig=$data/kubeconfig
mkdir -p -m 0700 "$data"
step() { printf '\033[1m==>\033[0m %s\n' "$*"; }

kubectl=$(scripts/tools.sh)

k() { "$kubectl" --kubeconfig "$kubeconfig" "$@"; }
if [ -s "$kubeconfig" ] && k get --raw /readyz >/dev/null 2>&1; then
  step "a cluster already runs on $data"
else
  step "starting wherry (log: $data/wherry.log)"
  mkfifo "$data/ready.$$"
  setsid nohup "$binary" up --data-dir "$data" --api-bind "$bind" --kubeconfig "$kubeconfig" \
    </dev/null >"$data/ready.$$" 2>>"$data/wherry.log" &
  # The first line says `ready`, the second where the dashboard is; the end of the file means that the process has ended.
  if ! { { read -r line && read -r -t 5 dashboard || true; } <"$data/ready.$$" && [ "$line" = ready ]; }; then
    rm -f "$data/ready.$$"
    tail -n 5 "$data/wherry.log" >&2
    exit 1
  fi
  rm -f "$data/ready.$$"
fi

step "loading the example's image"
"$binary" image load --data-dir "$data" examples/hello/hello.wasm hello:1
step "deploying examples/hello"
k apply -f examples/hello/
if ! k rollout status deployment/hello --timeout=120s; then
  # Why is in the events, and without a cluster that works nobody knows yet how to ask for them.
  k get events --field-selector type=Warning >&2
  exit 1
fi

address=$(k get service hello -o 'jsonpath={.spec.clusterIP}')
node_port=$(k get service hello -o 'jsonpath={.spec.ports[0].nodePort}')
by_address=http://$address/ by_node_port=http://127.0.0.1:$node_port/
if [[ $address != 127.* ]] || [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" -le 80 ]; then
  url=$by_address also="The Service also answers at $by_node_port."
else
  url=$by_node_port also="It would answer at $by_address too, but without root its port needs
'sysctl -w net.ipv4.ip_unprivileged_port_start=80'."
fi
cat <<TEXT

The cluster is up. Its kubeconfig: $kubeconfig

  $kubectl --kubeconfig $kubeconfig get pods -o wide
  curl $url

${dashboard:+The $dashboard (it signs in once, within 15 minutes)

}$also 'make down' ends everything.
TEXT
