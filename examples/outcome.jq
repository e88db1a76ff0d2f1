# Print the outcome of a run in one line, from its events:
#
#   set -o pipefail
#   oaibg submit --messages-json-file messages.json | jq -r -f outcome.jq
#
# Only the last event has an exit code; all events before it report progress.
select(.exit_code != null)
| ([.calls[]? | .name // .type] | join(", ")) as $calls
| (.message // .error.message // .incomplete_details.reason
   // (if .refusal then "refused: \(.refusal)"
       elif $calls != "" then "waiting for \($calls)"
       elif .exit_code == 10 and .output_types then "no text"
       else null end)) as $why
| "\(.response_id // .event): \(.status // .code // (.counts | if . then tojson else "done" end)) (exit \(.exit_code))"
  + (if $why then ": \($why)" else "" end)
  + (if .usage then ", \(.usage.output_tokens) output tokens" else "" end)
  + (if .next then "\nnext: \(.next | @sh)" else "" end)
