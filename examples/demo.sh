#!/bin/sh
# Run the four commands against the local sandbox: no key, no network, no cost.
# Needs on PATH `oaibg`, and the Python that has it installed with the extra: oaibg[sandbox].
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
sandbox=

finish() {
    [ -z "$sandbox" ] || kill "$sandbox" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

say() { printf '\n# %s\n' "$*"; }

# Print a command, run it, and fail unless it ends with CODE: `expect CODE COMMAND…`
expect() {
    wanted=$1
    shift
    printf '$ %s\n' "$*"
    code=0
    "$@" >"$work/out" || code=$?
    sed 's/^\(.\{240\}\)..*/\1…/' "$work/out" # shorten long lines for reading
    printf '(exit code %s)\n' "$code"
    [ "$code" -eq "$wanted" ] || { echo "expected exit code $wanted" >&2; exit 1; }
}

id_of_last_run() { sed -n 's/.*"response_id":"\([^"]*\)".*/\1/p' "$work/out" | tail -n 1; }

say "Start the sandbox on a free port; it prints two export lines."
: >"$work/exports"
python -m oaibg.sandbox --quiet --seconds 2 >"$work/exports" &
sandbox=$!
attempts=0
while [ "$(wc -l <"$work/exports")" -lt 2 ]; do
    attempts=$((attempts + 1))
    { [ "$attempts" -lt 100 ] && kill -0 "$sandbox" 2>/dev/null; } || { echo "the sandbox did not start" >&2; exit 1; }
    sleep 0.1
done
cat "$work/exports"
. "$work/exports"
export OAIBG_STATE_DIR="$work/state" NO_PROXY=127.0.0.1

say "Submit a messages file and follow the job until it ends."
expect 0 oaibg submit --messages-json-file "$here/messages.json" --poll-seconds 0.5

say "Submit another job without waiting; then resume it by its ID, as after a lost shell."
expect 0 oaibg submit --prompt "Take your time." --detach
id=$(id_of_last_run)
expect 0 oaibg monitor "$id" --poll-seconds 0.5 --output-text-file "$work/answer.md"

say "Submit a long job and cancel it."
expect 0 oaibg submit --prompt "Take all day." --metadata sandbox_seconds=86400 --detach
id=$(id_of_last_run)
expect 0 oaibg cancel "$id"

say "Show the last job (it was cancelled, so the exit code is 4), and list all jobs."
expect 4 oaibg show
expect 0 oaibg show --list

say "Run a jobs file; the results are lines in the Batch API's format. Then run it as a batch."
expect 0 "$here/many.sh" "$here/jobs.jsonl" "$work/results.jsonl" --poll-seconds 0.5
cut -c 1-120 "$work/results.jsonl"
expect 0 "$here/batch.sh" "$here/jobs.jsonl" "$work/batch.jsonl" --poll-seconds 0.5 --job-key batch
cut -c 1-120 "$work/batch.jsonl"

say "Stream a job, with its text as it is generated."
expect 0 oaibg submit --prompt "Say it." --stream-text

say "Done. The sandbox is stopped."
