# The outcome of a run in one line, from its events:
#
#   oaibg submit --messages-json-file messages.json | jq -r -f outcome.jq
#
# Only the last line has an exit code; everything before it is progress.
select(.exit_code != null)
| "\(.response_id // "no job"): \(.status // .code) (exit \(.exit_code))"
  + (if .usage then ", \(.usage.output_tokens) output tokens" else "" end)
  + (if .next then "\nnext: \(.next | @sh)" else "" end)
