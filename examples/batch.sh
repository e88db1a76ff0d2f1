#!/bin/sh
# Run a jobs file through the Batch API, and wait up to a day for its end. It costs half the price:
# https://developers.openai.com/api/docs/guides/batch
#
#   batch.sh JOBS.jsonl RESULTS.jsonl [more options of `oaibg submit`]
#
# You can stop it and run it again at any time, even tomorrow: it continues with the same batch,
# which keeps running at the API.
set -u

[ "$#" -ge 2 ] || { echo "usage: batch.sh JOBS.jsonl RESULTS.jsonl [options]" >&2; exit 2; }
exec "$(dirname "$0")/many.sh" "$@" --completion-window 24h
