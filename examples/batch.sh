#!/bin/sh
# Run a file of jobs through the Batch API, at half price and within a day, to its end.
#
#   batch.sh JOBS.jsonl RESULTS.jsonl [more options of `oaibg submit`]
#
# It may be stopped and run again at any time, also tomorrow: there is one batch, and it goes on
# without anybody waiting.
set -u

[ "$#" -ge 2 ] || { echo "usage: batch.sh JOBS.jsonl RESULTS.jsonl [options]" >&2; exit 2; }
exec "$(dirname "$0")/many.sh" "$@" --completion-window 24h
