#!/bin/sh
# Wait for a job in slices that fit a harness's command limit, and go on by `next` after each.
#
#   resume.sh KEY MESSAGES.json ANSWER.md
#
# KEY names the work, so that running this again never pays twice: it goes on with the same job.
# Needs jq. The exit code is that of the last oaibg command: 0, or what to do next (see the README).
set -u

key=$1 messages=$2 answer=$3
slice=${SLICE_SECONDS:-540}

set -- oaibg submit --job-key "$key" --messages-json-file "$messages" \
    --output-text-file "$answer" --max-wait-seconds "$slice" --events changes

while :; do
    last=$("$@" | tee /dev/stderr | tail -n 1)
    code=$(printf '%s\n' "$last" | jq '.exit_code')
    # 3: the job goes on, and so do we. 7: nothing was created, or nothing was reached; the same
    # command again, or `next` where the job has an id.
    case $code in
        3) ;;
        7) sleep "${RETRY_SECONDS:-30}" ;;
        *) exit "${code:-1}" ;;
    esac
    next=$(printf '%s\n' "$last" | jq -r '.next // empty | @sh')
    [ -z "$next" ] || eval "set -- $next"
done
