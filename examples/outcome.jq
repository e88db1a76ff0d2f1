# Print the outcome of a run in one line, from its events:
#
#   set -o pipefail
#   oaibg submit --messages-json-file messages.json | jq -r -f outcome.jq
#
# Only the last event has an exit code; all events before it report progress.
select(.exit_code != null)
| (.message // .error.message // .incomplete_details.reason) as $why
| "\(.response_id // .event): \(.status // .code // (.counts | if . then tojson else "done" end)) (exit \(.exit_code))"
  + (if $why then ": \($why)" else "" end)
  + (if .usage then ", \(.usage.output_tokens) output tokens" else "" end)
  + (if .next then "\nnext: \(.next | @sh)" else "" end)
