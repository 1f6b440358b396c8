#!/usr/bin/env bash
# Compares promring with peers on the same work: the same exporters, the same configuration, the same receiver, one
# after the other in turn. Prints CPU-seconds a million samples (scrape to acknowledged), RSS a series, and wire bytes a
# sample.
#
#   benches/compare.sh [--targets N] [--series N] [--interval S] [--warmup S] [--measure S] [--rounds N]
#                      [--message 1|2|both] [--peer vmagent|prometheus|both] [--metadata 0|1] [--request SAMPLES] [--profile]
#
# --message is the version of remote write of promring and Prometheus; vmagent has 1.0 only. --metadata 0 has neither send
# metadata. With --metadata 1 Prometheus is a server with metadata-wal-records, since an agent has none to send beside
# series. --request is how many samples each of them puts into a request at most: vmagent's own default, as what a request
# costs is no matter of the programs' (with their own defaults promring and Prometheus put 2000 into one). --profile samples
# promring with perf while it is measured, where perf is there, and prints where its time goes; such a run's numbers are no
# result. vmagent is the program that VMAGENT names, or the one in Debian's victoria-metrics, which is fetched; Prometheus
# (3.15) the one that PROMETHEUS_3 names, or the one that tests/e2e.sh builds. Everything runs on loopback, and ends after a
# time that is known from the flags. Needs bash, curl and python3 beside a Rust toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=1000 series=1000 interval=10 warmup=30 measure=60 rounds=1 message=1 peer=vmagent metadata=1 request=10000 profile=0
while [ $# -gt 0 ]; do
  case "$1" in
    --profile) profile=1; shift; continue ;;
    --targets | --series | --interval | --warmup | --measure | --rounds | --message | --peer | --metadata | --request)
      [ $# -ge 2 ] || { echo "compare: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2" ;;
    *) sed -n '2,16p' "$0" | cut -c3-; exit 2 ;;
  esac
  shift 2
done
case "$message" in 1 | 2) messages=$message ;; both) messages="1 2" ;; *) echo "compare: --message is 1, 2 or both" >&2; exit 2 ;; esac
case "$peer" in vmagent | prometheus) peers=$peer ;; both) peers="vmagent prometheus" ;; *) echo "compare: --peer is vmagent, prometheus or both" >&2; exit 2 ;; esac

case "$metadata" in 0) send=false ;; 1) send=true ;; *) echo "compare: --metadata is 0 or 1" >&2; exit 2 ;; esac

# Seconds that a program may take to end, after which it is killed.
stop_max=20
# Seconds that a build or a download may take.
prepare_max=3600

timeout "$prepare_max" cargo build --locked --release --quiet
promring="${CARGO_TARGET_DIR:-target}/release/promring"
eval "$(sed -n '/^debian_part()/,/^}/p; /^go_part()/,/^}/p' tests/e2e.sh)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/promring-e2e"
mkdir -p "$cache"
for name in $peers; do
  case "$name" in
    vmagent) VMAGENT=${VMAGENT:-$(debian_part victoria-metrics usr/bin/vmagent)} ;;
    prometheus)
      PROMETHEUS_3=${PROMETHEUS_3:-$(go_part prometheus prometheus github.com/prometheus/prometheus/cmd/prometheus remove_all_sd,enable_kubernetes_sd,enable_dns_sd)} ;;
  esac
done

work=$(mktemp -d)
pids=()
# stop PID: asks it to end, and kills it where it does not.
stop() {
  kill "$1" 2>/dev/null || return 0
  for _ in $(seq $((stop_max * 10))); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
cleanup() {
  trap - TERM INT
  for pid in "${pids[@]}"; do stop "$pid"; done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'echo "compare: stopped" >&2; exit 3' TERM INT

# Everything together may take this long, whatever hangs.
programs=$(($(wc -w <<<"$messages") * (1 + $(grep -c prometheus <<<"$peers" || true)) + $(grep -c vmagent <<<"$peers" || true)))
time_max=$((60 + rounds * programs * (warmup + measure + 3 * stop_max)))
(sleep "$time_max" && echo "compare: more than $time_max s" >&2 && kill "$$") &
pids+=($!)
# pause SECONDS: a sleep that a signal ends.
pause() { sleep "$1" & wait $!; }

receiver=127.0.0.1:19091
ulimit -n 65536 2>/dev/null || true
"$promring" demo exporters --targets "$targets" --series "$series" --targets-file "$work/targets.json" >"$work/exporters.log" &
pids+=($!)
"$promring" demo receiver --listen "$receiver" >"$work/receiver.log" &
pids+=($!)
for _ in $(seq 100); do
  [ -s "$work/targets.json" ] && curl -fs --max-time 5 "http://$receiver/api/v1/audit" >/dev/null && break
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
common >"$work/vmagent.yml"
for version in $messages; do
  kind=$([ "$version" = 2 ] && echo io.prometheus.write.v2.Request || echo prometheus.WriteRequest)
  { common && echo "remote_write: [{url: 'http://$receiver/api/v1/write', name: bench, protobuf_message: $kind, metadata_config: {send: $send}, queue_config: {max_samples_per_send: $request}}]"; } >"$work/v$version.yml"
done

# cpu PID: CPU-seconds of a process so far. rss PID: its resident memory in bytes.
cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"; }
rss() { awk '/^VmRSS:/ { print $2 * 1024 }' "/proc/$1/status"; }
received() {
  curl -fs --max-time 30 "http://$receiver/api/v1/audit" |
    python3 -c 'import json,sys; s=json.load(sys.stdin); print(s["samples"], s["received"]["bytes"])'
}

# run NAME COMMAND…: measures one program.
run() {
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  local pid=$!
  pids+=("$pid")
  pause "$warmup"
  local cpu0 cpu1 s0 b0 s1 b1 memory
  cpu0=$(cpu $pid)
  read -r s0 b0 < <(received)
  local profiler=
  if [ "$profile" = 1 ] && [[ $name == promring* ]]; then
    if command -v perf >/dev/null; then
      perf record --quiet -F 499 -p "$pid" -o "$work/$name.perf" -- sleep "$measure" 2>"$work/perf.log" &
      profiler=$!
    else
      echo "compare: perf is not there, so there is no profile" >&2
    fi
  fi
  pause "$measure"
  cpu1=$(cpu $pid)
  read -r s1 b1 < <(received)
  memory=$(rss $pid)
  [ -z "$profiler" ] || wait "$profiler" || { echo "compare: perf fails" >&2; cat "$work/perf.log" >&2; }
  stop $pid
  python3 - "$name" "$cpu0" "$cpu1" "$s0" "$s1" "$b0" "$b1" "$memory" "$((targets * series))" <<'PY'
import sys
name, (cpu0, cpu1, s0, s1, b0, b1, memory, series) = sys.argv[1], map(float, sys.argv[2:])
samples = s1 - s0
print(f"{name:14} {(cpu1 - cpu0) / samples * 1e6:8.3f} CPU-s/M samples   {memory / series:8.1f} B RSS/series"
      f"   {(b1 - b0) / samples:6.2f} wire B/sample   ({samples:.0f} samples, {memory / 1e6:.0f} MB RSS)", flush=True)
PY
}

for round in $(seq "$rounds"); do
  for version in $messages; do
    name=promring-$version.0
    run "$name" "$promring" standalone --config "$work/v$version.yml" --data-dir "$work/data-$version-$round" --listen 127.0.0.1:18081 --log-level warn
    if [ -s "$work/$name.perf" ]; then
      timeout "$stop_max" perf report --stdio --no-inline --no-children --percent-limit 0.5 -i "$work/$name.perf" 2>/dev/null | grep -v '^#' | grep . | head -40 ||
        echo "compare: perf report gives nothing" >&2
      rm -f "$work/$name.perf"
    fi
  done
  for name in $peers; do
    case "$name" in
      vmagent)
        run vmagent-1.0 "$VMAGENT" -promscrape.config="$work/vmagent.yml" -remoteWrite.url="http://$receiver/api/v1/write" \
          -remoteWrite.maxRowsPerBlock="$request" -remoteWrite.tmpDataPath="$work/vm-$round" -httpListenAddr=127.0.0.1:18429 ;;
      prometheus)
        for version in $messages; do
          storage=(--agent --storage.agent.path="$work/agent-$version-$round")
          [ "$metadata" = 0 ] || storage=(--enable-feature=metadata-wal-records --storage.tsdb.path="$work/tsdb-$version-$round")
          run "prometheus-$version.0" "$PROMETHEUS_3" "${storage[@]}" --config.file="$work/v$version.yml" --web.listen-address=127.0.0.1:18090 --log.level=warn
        done ;;
    esac
  done
done
