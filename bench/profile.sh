#!/bin/bash
# Where orlop's time goes: a profile of one path under load.
#   bench/profile.sh [manifest-digest | manifest-tag | push | push-small | pull | referrers] [SECONDS]
#   bench/profile.sh s3-…       the same with the store on S3 (Ceph's gateway, started for it)
# Uses perf where it is allowed, callgrind otherwise (or with PROFILER=callgrind). The report goes to the terminal
# and to bench/results/profile-KIND.txt. ORLOP_RELEASE names the binary, PORT and PORT + 1 are used (5210).
set -euo pipefail

kind=${1:-manifest-digest}
seconds=${2:-10}
port=${PORT:-5210}
here=$(cd "$(dirname "$0")" && pwd)
orlop=${ORLOP_RELEASE:-$here/../build/release/orlop}
lines_max=80

case ${kind#s3-} in manifest-digest | manifest-tag | push | push-small | pull | referrers) ;; *)
    sed -n '3,4s/^# *//p' "$0" >&2
    exit 2
    ;;
esac
[ -x "$orlop" ] || { echo "$orlop is not there: build it with make, or name another with ORLOP_RELEASE" >&2; exit 2; }
"$here/install-deps.sh" --profile

profiler=${PROFILER:-}
if [ -z "$profiler" ]; then
    profiler=callgrind
    perf record -q -o /dev/null -- true >/dev/null 2>&1 && profiler=perf
fi

store=""
if [ "$kind" != "${kind#s3-}" ]; then
    if [ -z "${ORLOP_TEST_S3:-}" ]; then
        exec python3 -B "$here/../tests/lib/rgw.py" --objectstore bluestore -- "$0" "$@"
    fi
    store=$ORLOP_TEST_S3/profile-$$
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/orlop-profile.XXXXXX")
server=""
stop_server() {
    [ -z "$server" ] || { kill -TERM "$server" && wait "$server" || true; } 2>/dev/null
    server=""
}
trap 'stop_server; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

command=("$orlop" serve --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$((port + 1))" --store "${store:-$work/store}")
if [ "$profiler" = callgrind ]; then
    command=(valgrind --tool=callgrind --callgrind-out-file="$work/callgrind.out" "${command[@]}")
fi
"${command[@]}" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 200); do
    curl -fs -o /dev/null "http://127.0.0.1:$port/v2/" && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done

load() { (cd "$here" && python3 -B -m orlop_bench.load "${kind#s3-}" "$port" "$seconds" "$work"); }
report=$here/results/profile-$kind.txt
mkdir -p "$here/results"
if [ "$profiler" = perf ]; then
    perf record -q -g -F 999 -o "$work/perf.data" -p "$server" &
    recorder=$!
    result=$(load)
    kill -INT "$recorder"
    wait "$recorder" || true
    {
        echo "# $kind under perf: $result"
        perf report -i "$work/perf.data" --stdio --no-children -g none --sort dso --percent-limit 0.5 2>/dev/null
        perf report -i "$work/perf.data" --stdio --no-children -g none --percent-limit 0.3 2>/dev/null
        echo "# callers of the hottest"
        perf report -i "$work/perf.data" --stdio --no-children -g caller,0.5,callee --percent-limit 2 2>/dev/null
    } | sed '/^$/d; /^#$/d; /^# \(To display\|Total Lost\)/d' >"$report"
else
    result=$(load)
    stop_server # writes what it counted
    {
        echo "# $kind under callgrind: $result"
        callgrind_annotate "$work/callgrind.out"
    } >"$report"
fi
head -n "$lines_max" "$report"
echo "# all of it: $report"
