#!/bin/sh
# Show oaibg at work against the local sandbox: no key, no network, no cost. It takes about 40 s.
# Needs on PATH `oaibg`, and the Python that has it installed with the extra: oaibg[sandbox].
#
# Each command is run exactly as it is printed. Pasted into a shell in this repository, they all
# work again.
set -eu

cd "$(dirname "$0")/.."
private=$(mktemp -d)
work=
sandbox=

finish() {
    [ -z "$sandbox" ] || kill "$sandbox" 2>/dev/null || true
    rm -rf "$private" ${work:+"$work"}
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# On a terminal: commands in bold, time to read, and one row for each line of JSON.
bold='' plain='' columns=100 terminal=false
if [ -t 1 ]; then
    terminal=true
    columns=$(stty size <&1 2>/dev/null | cut -d ' ' -f 2)
    if [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
        bold=$(printf '\033[1m') plain=$(printf '\033[0m')
    fi
fi
[ "${columns:-0}" -ge 60 ] || columns=80
[ "$columns" -le 200 ] || columns=200

section() { printf '\n%s## %s%s\n' "$bold" "$1" "$plain"; }
say() { printf '\n'; printf '# %s\n' "$@"; }
show() { printf '%s$ %s%s\n' "$bold" "$1" "$plain"; }
pause() { if "$terminal"; then sleep "$1"; fi; }

# Print a command, run it, and fail unless it ends with CODE: `run CODE COMMAND`
run() {
    show "$2"
    code=0
    eval "$2" || code=$?
    check "$1"
    pause 1.5
}

# Print a command, and run it to prepare the others.
set_up() {
    show "$1"
    eval "$1"
}

# The same as `run` for a command that prints JSON lines, which are shortened.
run_json() {
    show "$2"
    code=0
    eval "$2" >"$private/out" || code=$?
    shorten "$private/out"
    check "$1"
    pause 0.8
}

check() {
    printf '(exit code %s)\n' "$code"
    [ "$code" -eq "$1" ] || { echo "expected exit code $1" >&2; exit 1; }
}

# Leave out of each line what a reader doesn't need: `ts`, `v`, null IDs, the rest of the IDs, and
# the fields that the row has no room for, but never the exit code and `next`.
shorten() {
    sed -e 's/"ts":"[^"]*","v":1,//' -e 's/"response_id":null,//' -e 's/"custom_id":null,//' \
        -e 's/\(resp_[0-9a-f]\{6\}\)[0-9a-f]*/\1~/g' -e 's/\(batch_[0-9a-f]\{6\}\)[0-9a-f]*/\1~/g' \
        -e '/^.\{1,75\}"exit_code":[0-9]/b end' \
        -e '/"exit_code":[0-9]/s/^\(.\{1,75\},\)".*\("exit_code":[0-9].*\)$/\1~,\2/' \
        -e '/"exit_code":[0-9]/!s/^\(.\{1,'"$((columns - 3))"'\},\)".*}$/\1~}/' \
        -e ': end' -e 's/~/…/g' "$1"
}

# Start the sandbox. It listens on a free port, and prints two `export` lines.
: >"$private/exports"
python -m oaibg.sandbox --quiet --seconds 2 >"$private/exports" &
sandbox=$!
attempts=0
while [ "$(wc -l <"$private/exports")" -lt 2 ]; do
    attempts=$((attempts + 1))
    { [ "$attempts" -lt 100 ] && kill -0 "$sandbox" 2>/dev/null; } || { echo "the sandbox did not start" >&2; exit 1; }
    sleep 0.1
done
url=$(sed -n 's/export OPENAI_BASE_URL=//p' "$private/exports")
port=${url##*:}

section "The sandbox: a local server; no model, no API key, no cost"
case $(command -v oaibg) in "$PWD/.venv/bin/"*) show 'export PATH="$PWD/.venv/bin:$PATH"' ;; esac
show "python -m oaibg.sandbox --quiet --seconds 2 --port ${port%/v1} &"
set_up "export OPENAI_BASE_URL=$url OPENAI_API_KEY=sandbox"
set_up "export NO_PROXY=127.0.0.1"
set_up 'work=$(mktemp -d); export OAIBG_STATE_DIR="$work/state"'

section "What a person sees: --human"

say "Ask a question. (The sandbox has no model, so a file gives its answer.)"
run 0 'oaibg submit "Which proposal is best?" --human --job-key plan \
    --metadata "sandbox_text=$(cat examples/demo/answer.md)" --poll-seconds 1'

say "Run 12 jobs. One of them fails."
run 4 'oaibg submit --human --jobs-file examples/demo/cities.jsonl \
    --results-file "$work/cities.csv" --job-key cities --poll-seconds 0.5'

say "Retry only the failed job."
run 0 'oaibg submit --human --jobs-file examples/demo/cities.jsonl \
    --results-file "$work/cities.csv" --job-key cities --poll-seconds 0.5 \
    --retry-failed'

section "What a program sees: JSON lines and exit codes (shortened here)"

say "Submit a job without waiting for it."
run_json 0 'oaibg submit "Take your time." --job-key report --detach'

say "Wait for it by its ID or its key, in any shell, and save the answer."
run_json 0 'oaibg monitor report --output-text-file "$work/report.md" --poll-seconds 1'

say "Cancel a job. The exit code of show is then 4: the job ended without success."
run_json 0 'oaibg submit "Take all day." --job-key day --detach \
    --metadata sandbox_seconds=86400'
run_json 0 'oaibg cancel day'
run_json 4 'oaibg show day'

say "List the jobs, newest first."
run_json 0 'oaibg show --list'

say "Run a file through the Batch API."
run_json 0 'oaibg submit --jobs-file examples/jobs.jsonl --job-key capitals \
    --results-file "$work/batch.jsonl" --completion-window 24h --poll-seconds 1'

section "Done. The sandbox has stopped."
say "In this folder, all of these commands can be pasted into a shell of your own:" \
    "the first ones start the sandbox again. \`kill %1\` stops it."
