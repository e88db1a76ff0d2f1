#!/bin/sh
# Wait for a job in slices: run `next` after each, until the job ends.
#
#   resume.sh KEY MESSAGES.json ANSWER.md
#
# KEY names the work: running this again continues with the same job and never pays twice.
# The script runs for as long as the job does. Under a command limit, run it in the background, or
# run one slice yourself (the first command below), and repeat it while it exits with 3.
#
# Environment: SLICE_SECONDS (540); if the network is unavailable, RETRY_SECONDS (30) and TRIES (10).
# Needs jq. The exit code is that of the last oaibg command (see the README).
set -u

[ $# -eq 3 ] || { echo "usage: resume.sh KEY MESSAGES.json ANSWER.md" >&2; exit 2; }
command -v jq >/dev/null || { echo "resume.sh needs jq" >&2; exit 2; }

key=$1 messages=$2 answer=$3 attempts=${TRIES:-10}

set -- oaibg submit --job-key "$key" --messages-json-file "$messages" \
    --output-text-file "$answer" --max-wait-seconds "${SLICE_SECONDS:-540}" --events changes

while :; do
    last=$("$@" | tee -a /dev/stderr | tail -n 1)
    code=$(printf '%s\n' "$last" | jq '.exit_code')
    case $code in
        3) ;; # the job is still running: continue
        7) # the API is unavailable, or the key is in use: retry after a while
            attempts=$((attempts - 1))
            [ "$attempts" -gt 0 ] || exit 7
            sleep "${RETRY_SECONDS:-30}"
            ;;
        *) exit "${code:-1}" ;;
    esac
    next=$(printf '%s\n' "$last" | jq -r '.next // empty | @sh')
    [ -z "$next" ] || eval "set -- $next"
done
