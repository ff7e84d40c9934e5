#!/bin/sh
# Runs a server for a test, and ends it when the test ends, however that comes: its standard input is a pipe of the test's process.
#   guard.sh DIRECTORY READY SIGNAL SERVER [ARGUMENT]...
# READY is a command that succeeds once the server answers, SIGNAL ends it in order. Prints "ready PID", or "failed" and ends. A line "keep" on standard input stops
# the server and keeps DIRECTORY for the next start; the end of standard input stops it and removes DIRECTORY.
dir=$1 ready=$2 signal=$3
shift 3
"$@" >>"$dir/server.log" 2>&1 </dev/null &
child=$!
alive() { [ -d "/proc/$child" ] && ! grep -q '^State:.Z' "/proc/$child/status" 2>/dev/null; }
tries=0
until sh -c "$ready" >/dev/null 2>&1; do
  tries=$((tries + 1))
  if ! alive || [ "$tries" -gt 1200 ]; then
    kill -KILL "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    echo failed
    exit 1
  fi
  sleep 0.05
done
echo "ready $child"
word=end
read -r word || word=end
# A test may have left it standing still.
kill -CONT "$child" $(cat "/proc/$child/task/$child/children" 2>/dev/null) 2>/dev/null
kill -"$signal" "$child" 2>/dev/null
wait "$child" 2>/dev/null
[ "$word" = keep ] || rm -rf "$dir"
