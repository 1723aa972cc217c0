#!/usr/bin/env bash
# Holds tenancyd to its OpenAPI document: requests made up from it, right and wrong ones, alone and in sequences, against
# the real binary. Usage: tools/api-test.sh [EXAMPLES]: how many for each operation (150).
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

need_cargo
cargo build --profile native --locked --package tenancyd >&2
tools/venv.sh tools/requirements-api.txt

folder=$(mktemp -d)
# Invoked by the trap.
# shellcheck disable=SC2329
clean() {
  if [ -n "${server:-}" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap clean EXIT

TENANCYD_TOKEN=$(random_secret)
export TENANCYD_TOKEN
target/native/tenancyd --listen 127.0.0.1:0 --database "$folder/api-test.db" --log info,tenancyd::api=error >"$folder/log" &
server=$!
for _ in $(seq 100); do
  address=$(sed -n 's/.*"message":"listening","address":"\([^"]*\)".*/\1/p' "$folder/log")
  [ -z "$address" ] || break
  sleep 0.1
done
[ -n "$address" ] || die "tenancyd didn't start: $(cat "$folder/log")"

# From there, since it leaves a folder of its own behind.
(cd "$folder" && timeout 240 "$ROOT/.venv/bin/schemathesis" --config-file "$ROOT/tools/schemathesis.toml" --no-color \
  run "http://$address/openapi.yaml" --checks all --max-examples "${1:-150}") || die "tenancyd isn't what its document says"
if grep -q '"level":"ERROR"' "$folder/log"; then
  cat "$folder/log" >&2
  die "tenancyd had faults of its own"
fi
