#!/usr/bin/env bash
# Fuzzes what reads bytes, each target for FUZZ_SECONDS (60). Needs a nightly Rust, which `rustup toolchain install nightly` brings.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

rustup toolchain list 2>/dev/null | grep -q '^nightly' || die "fuzzing needs a nightly Rust: rustup toolchain install nightly"
if ! cargo fuzz --version >/dev/null 2>&1; then
  say "Installing cargo-fuzz"
  cargo install --locked cargo-fuzz >&2
fi
for target in configuration request token websocket; do
  say "Fuzzing $target for ${FUZZ_SECONDS:-60} s"
  cargo +nightly fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-60}" -max_len=4096
done
