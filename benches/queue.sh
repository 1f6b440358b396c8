#!/usr/bin/env bash
# Measures the queue and the sender: enqueueing, writes to the disk, a start with a backlog, and samples a second through
# queue and sender on one core, with the auditing receiver on the other.
#
#   benches/queue.sh [--dir DIR] [--backlog MIB]
#
# DIR is where the queues lie; by default a temporary directory on the checkout's disk. Needs bash, curl and taskset, and
# as much disk as the backlog (10 GiB by default).
set -euo pipefail
cd "$(dirname "$0")/.."

dir='' backlog=10240
while [ $# -gt 0 ]; do
  case "$1" in
    --dir) dir=$2 ;; --backlog) backlog=$2 ;;
    *) sed -n '2,8p' "$0" | cut -c3-; exit 2 ;;
  esac
  shift 2
done

target="${CARGO_TARGET_DIR:-target}"
cargo build --locked --release --quiet
bench=$(cargo bench --locked --workspace --bench queue --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*queue-[^"]*\)".*/\1/p' | tail -1)
[ -x "$bench" ] || { echo "queue.sh: the benchmark was not built" >&2; exit 1; }

work=$(mktemp -d "${dir:-$target}/bench-queue-XXXXXX")
pid=
cleanup() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

"$bench" enqueue "$work/enqueue" 4096
rm -rf "$work/enqueue"
"$bench" enqueue "$work/backlog" "$backlog"
"$bench" backlog "$work/backlog"
rm -rf "$work/backlog"

for version in 1 2; do
  taskset -c 1 "$target/release/promring" demo receiver --listen 127.0.0.1:19092 >"$work/receiver.log" &
  pid=$!
  for _ in $(seq 100); do
    curl -fs http://127.0.0.1:19092/api/v1/audit >/dev/null && break
    sleep 0.1
  done
  taskset -c 0 "$bench" deliver "$work/deliver-$version" http://127.0.0.1:19092/api/v1/write "$version"
  curl -fs http://127.0.0.1:19092/api/v1/audit | sed 's/.*"duplicates":\([0-9]*\).*"out_of_order":\([0-9]*\).*/  audit: \1 duplicates, \2 out of order/'
  kill "$pid"; wait "$pid" 2>/dev/null || true
  pid=
done
