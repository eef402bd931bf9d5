#!/bin/bash
# Run fuzzers SECONDS each, as many at once as there are cores, and keep in the corpora what reached new code.
#
#   tests/fuzz/run.sh SECONDS [TARGET …]
#
# Needs the build of the preset "fuzz". Ends with "N passed, N failed"; logs in build/logs, findings in build/fuzz-findings.
set -uo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:?usage: $0 SECONDS [TARGET ...]}
shift
targets=("$@")
if ((!${#targets[@]})); then
    for source in tests/fuzz/fuzz_*.c; do
        target=${source##*/fuzz_}
        targets+=("${target%.c}")
    done
fi
input_bytes_max=4096
corpus_files_max=180
bin=build/fuzz/tests/fuzz
logs=build/logs
findings=build/fuzz-findings
mkdir -p "$logs" "$findings"

# Fuzz one target into a scratch corpus; then keep the smallest set of inputs that covers as much.
run_target() {
    local target=$1 corpus=tests/fuzz/corpus/$1 scratch log=$logs/fuzz-$1.log options=()
    scratch=$(mktemp -d)
    mkdir -p "$corpus"
    [ -f "tests/fuzz/$target.dict" ] && options+=("-dict=tests/fuzz/$target.dict")
    "$bin/fuzz_$target" "${options[@]}" -max_total_time="$seconds" -max_len=$input_bytes_max -timeout=10 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$findings/$target-" \
        "$scratch" "$corpus" >"$log" 2>&1 || return 1
    merge "$target" "$scratch" >>"$log" 2>&1
}

# Inputs are added in the order libFuzzer's merge finds useful, up to the corpus' limit.
merge() {
    local target=$1 scratch=$2 corpus=tests/fuzz/corpus/$1 merged file
    merged=$(mktemp -d)
    "$bin/fuzz_$target" -merge=1 -max_len=$input_bytes_max "$merged" "$corpus" "$scratch" || return 1
    for file in "$merged"/*; do
        (($(find "$corpus" -type f | wc -l) < corpus_files_max)) || break
        [ "$(stat -c %s "$file")" -le 1024 ] && cp -n "$file" "$corpus/"
    done
    rm -rf "$merged" "$scratch"
}

report() {
    local log=$logs/fuzz-$1.log
    printf '%-14s %12s runs  cov %6s  corpus %4s  peak %5s MiB  %s\n' "$1" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | head -1)" \
        "$(grep -o 'cov: [0-9]*' "$log" | head -n -1 | tail -1 | cut -d' ' -f2)" \
        "$(find "tests/fuzz/corpus/$1" -type f | wc -l)" \
        "$(sed -n 's/^stat::peak_rss_mb: *//p' "$log" | head -1)" "$2"
}

export -f run_target merge report
export seconds input_bytes_max corpus_files_max bin logs findings
printf '%s\n' "${targets[@]}" |
    xargs -P "$(nproc)" -I{} bash -c 'if run_target {}; then report {} ok; else report {} "FOUND SOMETHING"; fi' |
    tee "$logs/fuzz.log"
failed=$(grep -c 'FOUND SOMETHING$' "$logs/fuzz.log")
passed=$(grep -c ' ok$' "$logs/fuzz.log")
echo "$passed passed, $failed failed"
((failed == 0 && passed == ${#targets[@]}))
