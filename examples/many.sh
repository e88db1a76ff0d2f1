#!/bin/sh
# Run a jobs file until every job has ended, even after crashes, full disks and lost shells.
#
#   many.sh JOBS.jsonl RESULTS.jsonl [more options of `oaibg submit`]
#
# Running this again never pays twice: it continues the same run. stdout and the exit codes are
# those of `oaibg submit`.
set -u

[ "$#" -ge 2 ] || { echo "usage: many.sh JOBS.jsonl RESULTS.jsonl [options]" >&2; exit 2; }
command -v oaibg >/dev/null || { echo "many.sh: oaibg is not on PATH" >&2; exit 2; }
jobs=$1
results=$2
shift 2

attempts=0
while :; do
    code=0
    oaibg submit --jobs-file "$jobs" --results-file "$results" --max-wait-seconds 540 "$@" || code=$?
    case $code in
        3) attempts=0 ;; # the wait ended; jobs are still running
        7 | 9) # no network or a full disk: retry once a minute, at most 60 times
            attempts=$((attempts + 1))
            [ "$attempts" -lt 60 ] || exit "$code"
            sleep 60
            ;;
        *) exit "$code" ;;
    esac
    for option; do # a rerun continues the retry; with the option it would pay for another one
        shift
        [ "$option" = --retry-failed ] || set -- "$@" "$option"
    done
done
