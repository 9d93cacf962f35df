#!/usr/bin/env bash
# Makes an image for the container sandbox, without a registry of images: this machine's own release of Debian or Ubuntu, bare.
# The builder mounts its Python into it; the image's python3 is there for the libraries that come with it.
set -euo pipefail
image="${1:-edgeloop-sandbox}"

fail() {
  echo "sandbox-image: $1" >&2
  exit 2
}

[ "$(id -u)" = 0 ] || fail "only root can make a root file system. Next: sudo make sandbox-image"
for program in debootstrap docker; do
  command -v "$program" >/dev/null \
    || fail "$program is not installed. Next: apt-get install --no-install-recommends docker.io debootstrap"
done
docker info >/dev/null 2>&1 || fail "no Docker engine answers. Next: systemctl start docker, or without systemd: dockerd &"
release="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
[ -n "$release" ] || fail "/etc/os-release has no VERSION_CODENAME; Debian and Ubuntu have. Next: docker import a root file system of your own"

root="$(mktemp --directory)"
leave() { # debootstrap can leave /proc mounted there: this machine's own
  ! mountpoint --quiet "$root/proc" || umount "$root/proc"
  rm --recursive --force --one-file-system "$root"
}
trap leave EXIT
debootstrap --variant=minbase --include=ca-certificates,git,python3 "$release" "$root" >"$root.log" 2>&1 \
  || fail "debootstrap failed: $(tail -n 1 "$root.log"). Next: read $root.log"
tar --directory "$root" --one-file-system --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --create . \
  | docker import --message "$release by debootstrap" - "$image" >/dev/null
rm "$root.log"
echo "$image is made of $release. Next: export EDGELOOP_SANDBOX_IMAGE=$image for the builder, EDGELOOP_TEST_IMAGE=$image for tests"
