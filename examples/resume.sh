#!/bin/sh
# Wait for a job in slices, and go on by `next` after each, to the job's end.
#
#   resume.sh KEY MESSAGES.json ANSWER.md
#
# KEY names the work, so that running this again never pays twice: it goes on with the same job.
# It runs for as long as the job does. Under a command limit run it in the background, or run one
# slice yourself (the first command below) and the same again for as long as it exits with 3.
#
# Environment: SLICE_SECONDS (540), and RETRY_SECONDS (30) and TRIES (10) for a network that is away.
# Needs jq. The exit code is that of the last oaibg command: 0, or what to do next (see the README).
set -u

[ $# -eq 3 ] || { echo "usage: resume.sh KEY MESSAGES.json ANSWER.md" >&2; exit 2; }
command -v jq >/dev/null || { echo "resume.sh needs jq" >&2; exit 2; }

key=$1 messages=$2 answer=$3 tries=${TRIES:-10}

set -- oaibg submit --job-key "$key" --messages-json-file "$messages" \
    --output-text-file "$answer" --max-wait-seconds "${SLICE_SECONDS:-540}" --events changes

while :; do
    last=$("$@" | tee -a /dev/stderr | tail -n 1)
    code=$(printf '%s\n' "$last" | jq '.exit_code')
    case $code in
        3) ;; # the job goes on, and so do we
        7) # nothing was created, or nothing was reached: again, after a while
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || exit 7
            sleep "${RETRY_SECONDS:-30}"
            ;;
        *) exit "${code:-1}" ;;
    esac
    next=$(printf '%s\n' "$last" | jq -r '.next // empty | @sh')
    [ -z "$next" ] || eval "set -- $next"
done
