#!/bin/bash
# Install what orlop needs from Debian's (or Ubuntu's) own packages, if anything is missing.
#
#   packaging/install-deps.sh build     to build and run
#   packaging/install-deps.sh test      … and for `make test`
#   packaging/install-deps.sh budgets   … and for `make budgets`: what orlop is compared with
#   packaging/install-deps.sh all       … for `make test`, and for lint, fuzz and coverage
#
# Checks first; with everything there it takes a moment, needs no network and no root.
set -euo pipefail

build=(gcc libc6-dev make cmake ninja-build pkgconf
    libmicrohttpd-dev libgnutls28-dev libssl-dev libjansson-dev libyaml-dev libcrypt-dev
    libcurl4-openssl-dev libexpat1-dev)
test=(git curl openssl strace libcmocka-dev python3 python3-pytest
    docker.io docker-registry podman buildah skopeo mmdebstrap
    ceph-mon ceph-osd radosgw
    swift-proxy swift-account swift-container swift-object memcached)
budgets=(docker-registry)
all=(clang clang-format clang-tidy libclang-rt-14-dev gcovr)

case "${1-}" in
build) wanted=("${build[@]}") ;;
test) wanted=("${build[@]}" "${test[@]}") ;;
budgets) wanted=("${build[@]}" "${test[@]}" "${budgets[@]}") ;;
all) wanted=("${build[@]}" "${test[@]}" "${all[@]}") ;;
*)
    echo "usage: $0 build|test|budgets|all" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "$0: this is no Debian; the packages' names there are: ${wanted[*]}" >&2
    exit 0
fi

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
missing=()
for package in "${wanted[@]}"; do
    # Another build of docker will do, and could not stand beside Debian's.
    [[ $package = docker.io && -x /usr/bin/dockerd ]] && continue
    grep -qx "installed $package" <<<"$installed" || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null || {
        echo "$0: missing packages: ${missing[*]}; become root or install sudo" >&2
        exit 1
    }
    as_root=(sudo)
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq)
echo "installing ${missing[*]}"

# Debian starts a daemon when its package is installed; only the programs are wanted, so policy-rc.d says no meanwhile.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
