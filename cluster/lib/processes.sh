# SPDX-License-Identifier: Apache-2.0
# Remembers processes by "PID START" in a file; START (the start time in clock ticks) tells a process from a later one with
# the same number, so that nothing of somebody else's is ever signalled.

# Nothing for a process that has ended, also while nobody has taken note of its end. Its first thread may have ended before
# the others: then it still has its sockets.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ || $18 > 1 {print $20}'; }

remember() { echo "$1 $(start_time "$1")" >"$2.new" && mv "$2.new" "$2"; }

# Prints the remembered process if it still runs; status 1 when not.
remembered() {
  local pid start
  read -r pid start 2>/dev/null <"$1" || return
  [ -n "$start" ] && [ "$start" = "$(start_time "$pid")" ] && echo "$pid"
}
