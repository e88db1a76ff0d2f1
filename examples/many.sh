#!/bin/sh
# Run a file of jobs until nothing is left to do, also after crashes, full disks and lost shells.
#
#   many.sh JOBS.jsonl RESULTS.jsonl [more options of `oaibg submit`]
#
# Running this again never pays twice: it goes on with the same run. Exit codes as those of
# `oaibg submit`; its lines are on stdout.
set -u

[ "$#" -ge 2 ] || { echo "usage: many.sh JOBS.jsonl RESULTS.jsonl [options]" >&2; exit 2; }
command -v oaibg >/dev/null || { echo "many.sh: there is no oaibg on PATH" >&2; exit 2; }
jobs=$1
results=$2
shift 2

tries=0
while :; do
    code=0
    oaibg submit --jobs-file "$jobs" --results-file "$results" --max-wait-seconds 540 "$@" || code=$?
    case $code in
        3) tries=0 ;; # the wait is over, and jobs go on
        7 | 9) # no network, or no room on the disk: again in a minute, but not for ever
            tries=$((tries + 1))
            [ "$tries" -lt 60 ] || exit "$code"
            sleep 60
            ;;
        *) exit "$code" ;;
    esac
done
