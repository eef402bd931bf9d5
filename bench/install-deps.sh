#!/bin/sh
# Checks that what the benchmarks use is there, and installs from Debian what is not.
#   --profile  also what bench/profile.sh uses
set -eu

missing=""
need() { # command, package
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}

need python3 python3
need wrk wrk
need nginx nginx-light
need docker-registry docker-registry
need curl curl
need cc gcc
need curl-config libcurl4-openssl-dev
[ -e /usr/include/openssl/evp.h ] || missing="$missing libssl-dev"
need rclone rclone
need ceph ceph-common
need ceph-mon ceph-mon
need ceph-osd ceph-osd
need radosgw radosgw
if [ "${1:-}" = "--profile" ]; then
    need perf linux-perf
    need valgrind valgrind
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "bench: missing:$missing (their Debian names); install them and run again" >&2
    exit 1
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
echo "bench: installing$missing" >&2

# Debian starts a daemon when it is installed; a benchmark wants only the programs, so policy-rc.d says no meanwhile.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$sudo rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
fi
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
