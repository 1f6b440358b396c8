#!/usr/bin/env bash
# Compares promring with a peer on the same work: the same exporters, the same configuration, the same receiver, one
# after the other in turn. Prints CPU-seconds a million samples (scrape to acknowledged), RSS a series, and wire bytes a
# sample, each with the ratio to the peer.
#
#   benches/compare.sh [--targets N] [--series N] [--interval S] [--warmup S] [--measure S] [--rounds N] [--message 1|2]
#
# The peer is vmagent: the program that VMAGENT names, or the one in Debian's victoria-metrics, which is fetched.
# Everything runs on loopback. Needs bash, curl and python3 beside a Rust toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=1000 series=1000 interval=10 warmup=30 measure=60 rounds=1 message=1
while [ $# -gt 0 ]; do
  case "$1" in
    --targets) targets=$2 ;; --series) series=$2 ;; --interval) interval=$2 ;; --warmup) warmup=$2 ;;
    --measure) measure=$2 ;; --rounds) rounds=$2 ;; --message) message=$2 ;;
    *) sed -n '2,11p' "$0" | cut -c3-; exit 2 ;;
  esac
  shift 2
done

cargo build --locked --release --quiet
promring="${CARGO_TARGET_DIR:-target}/release/promring"
if [ -z "${VMAGENT:-}" ]; then
  eval "$(sed -n '/^debian_part()/,/^}/p' tests/e2e.sh)"
  cache="${XDG_CACHE_HOME:-$HOME/.cache}/promring-e2e"
  mkdir -p "$cache"
  VMAGENT=$(debian_part victoria-metrics usr/bin/vmagent)
fi

work=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

receiver=127.0.0.1:19091
ulimit -n 65536 2>/dev/null || true
"$promring" demo exporters --targets "$targets" --series "$series" --targets-file "$work/targets.json" >"$work/exporters.log" &
pids+=($!)
"$promring" demo receiver --listen "$receiver" >"$work/receiver.log" &
pids+=($!)
for _ in $(seq 100); do
  [ -s "$work/targets.json" ] && curl -fs "http://$receiver/api/v1/audit" >/dev/null && break
  sleep 0.1
done

common() {
  cat <<YAML
global: {scrape_interval: ${interval}s, scrape_timeout: ${interval}s}
scrape_configs:
- job_name: bench
  file_sd_configs: [{files: [targets.json]}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'never_.*', action: drop}
  - {regex: pod_ip, action: labeldrop}
YAML
}
{
  common
  echo "remote_write: [{url: 'http://$receiver/api/v1/write', name: bench, protobuf_message: $([ "$message" = 2 ] && echo io.prometheus.write.v2.Request || echo prometheus.WriteRequest)}]"
} >"$work/promring.yml"
common >"$work/vmagent.yml"

# cpu PID: CPU-seconds of a process so far. rss PID: its resident memory in bytes.
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"; }
rss() { awk '/^VmRSS:/ { print $2 * 1024 }' "/proc/$1/status"; }
received() {
  curl -fs "http://$receiver/api/v1/audit" |
    python3 -c 'import json,sys; s=json.load(sys.stdin); print(s["samples"], s["received"]["bytes"])'
}

# run NAME COMMAND…: measures one program.
run() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  local pid=$!
  pids+=("$pid")
  sleep "$warmup"
  local cpu0 cpu1 s0 b0 s1 b1 memory
  cpu0=$(cpu $pid)
  read -r s0 b0 < <(received)
  sleep "$measure"
  cpu1=$(cpu $pid)
  read -r s1 b1 < <(received)
  memory=$(rss $pid)
  kill $pid
  wait $pid 2>/dev/null || true
  python3 - "$name" "$cpu0" "$cpu1" "$s0" "$s1" "$b0" "$b1" "$memory" "$((targets * series))" <<'PY'
import sys
name, (cpu0, cpu1, s0, s1, b0, b1, memory, series) = sys.argv[1], map(float, sys.argv[2:])
samples = s1 - s0
print(f"{name:10} {(cpu1 - cpu0) / samples * 1e6:8.3f} CPU-s/M samples   {memory / series:8.1f} B RSS/series"
      f"   {(b1 - b0) / samples:6.2f} wire B/sample   ({samples:.0f} samples, {memory / 1e6:.0f} MB RSS)", flush=True)
PY
}

for round in $(seq "$rounds"); do
  run promring "$promring" standalone --config "$work/promring.yml" --data-dir "$work/data-$round" --listen 127.0.0.1:18081 --log-level warn
  run vmagent "$VMAGENT" -promscrape.config="$work/vmagent.yml" -remoteWrite.url="http://$receiver/api/v1/write" \
    -remoteWrite.tmpDataPath="$work/vm-$round" -httpListenAddr=127.0.0.1:18429
done
