#!/usr/bin/env bash
# Runs the product on this machine: two upstreams, tenancyd with a few tenants, Envoy with the filter, and then curl
# and WebSocket clients against it all. With a terminal it stays up until Ctrl-C, otherwise it ends by itself.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

ENVOY_PORT=${ENVOY_PORT:-10000}
ADMIN_PORT=${ADMIN_PORT:-9901}
TENANCYD_PORT=${TENANCYD_PORT:-8070}
CONNECTIONS_PORT=${CONNECTIONS_PORT:-8071}
BLUE_PORT=${BLUE_PORT:-8081}
GREEN_PORT=${GREEN_PORT:-8082}
export TENANCYD_TOKEN=${TENANCYD_TOKEN:-$(random_secret)}
export TENANCYD_CONNECTIONS_SECRET=${TENANCYD_CONNECTIONS_SECRET:-$(random_secret)}
export TENANCY_JWT_SECRET=${TENANCY_JWT_SECRET:-$(random_secret)}

need curl curl "curl"
tools/venv.sh tools/requirements.txt
envoy=$(tools/envoy.sh)

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

for variable in ENVOY_PORT ADMIN_PORT TENANCYD_PORT CONNECTIONS_PORT BLUE_PORT GREEN_PORT; do
  if port_answers "${!variable}"; then
    die "port ${!variable} is taken by another program: choose a free one, as in: make demo $variable=$((${!variable} + 1000))"
  fi
done

logs=$(mktemp -d)
pids=()

stop() {
  local status=$?
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ "$status" -eq 0 ]; then rm -rf "$logs"; else say "The logs are in $logs"; fi
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME PORT COMMAND… runs it in the background, and waits until it takes connections.
start() {
  local name=$1 port=$2 deadline=$((SECONDS + 20))
  shift 2
  "$@" >"$logs/$name.log" 2>&1 &
  local pid=$!
  pids+=("$pid")
  until port_answers "$port"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 20 "$logs/$name.log" >&2
      die "$name ended at once; its last lines are above"
    fi
    [ $SECONDS -lt $deadline ] || die "$name does not answer on port $port after 20 seconds"
    sleep 0.05
  done
}

sed -e "s/port_value: 10000}/port_value: $ENVOY_PORT}/" \
  -e "s/port_value: 9901}/port_value: $ADMIN_PORT}/" \
  -e "s/port_value: 8070}/port_value: $TENANCYD_PORT}/" \
  -e "s/port_value: 8071}/port_value: $CONNECTIONS_PORT}/" \
  -e "s/port_value: 8081}/port_value: $BLUE_PORT}/" \
  -e "s/port_value: 8082}/port_value: $GREEN_PORT}/" \
  envoy/envoy.yaml >"$logs/envoy.yaml"

say "Starting two upstreams, tenancyd and Envoy"
start blue "$BLUE_PORT" dist/upstream --listen "127.0.0.1:$BLUE_PORT" --name blue
start green "$GREEN_PORT" dist/upstream --listen "127.0.0.1:$GREEN_PORT" --name green
start tenancyd "$TENANCYD_PORT" dist/tenancyd --listen "127.0.0.1:$TENANCYD_PORT" --database :memory: --seed envoy/demo-tenants.json \
  --connections "127.0.0.1:$CONNECTIONS_PORT"
start envoy "$ENVOY_PORT" "$envoy" --config-path "$logs/envoy.yaml" --concurrency 2 --disable-hot-restart --log-level warning

stays_up=
if [ -t 0 ] && [ -t 1 ] && [ -z "${CI:-}" ]; then stays_up=1; fi
TENANCYD_URL="http://127.0.0.1:$TENANCYD_PORT" STAYS_UP=$stays_up \
  .venv/bin/python3 -B tools/demo-checks.py "http://127.0.0.1:$ENVOY_PORT"

if [ "$stays_up" ]; then
  say "It stays up until Ctrl-C: paste any line above. Envoy's access log: tail -f $logs/envoy.log"
  trap 'say "Stopping"; exit 0' INT
  wait -n "${pids[@]}" || true
  tail -n 20 "$logs"/*.log >&2
  die "one of the programs ended by itself; the last lines of each are above"
fi
