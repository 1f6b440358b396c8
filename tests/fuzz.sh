#!/usr/bin/env bash
# Fuzzing: the seeds and what was learned again, then each target with new inputs for a while. A crash, a hang or too much
# memory fails it.
#
#   tests/fuzz.sh                20 seconds a target
#   tests/fuzz.sh 600            10 minutes a target
#   tests/fuzz.sh 600 relabel    10 minutes of one target
#   tests/fuzz.sh --keep         20 seconds a target, and fuzz/learned anew: the fewest inputs that reach the same code
#
# A nightly toolchain must be there; cargo-fuzz is installed where it is missing. What a run learns stays in
# fuzz/corpus and is where the next one begins; an input that fails is left in fuzz/artifacts. Once its cause is
# mended, the input goes to fuzz/seeds.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

CARGO_FUZZ_VERSION=0.13.2
# Limits for one input. The slowest that are not refused, or are refused late, take a second.
INPUT_SECONDS_MAX=10
INPUT_BYTES_MAX=65536
MEMORY_MIB_MAX=2048

seconds=20
keep=0
targets=()
for argument in "$@"; do
  case "$argument" in
    -h | --help) sed -n '2,12p' ../tests/fuzz.sh | cut -c3-; exit 0 ;;
    --keep) keep=1 ;;
    *[!0-9]*) targets+=("$argument") ;;
    *) seconds=$argument ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=(config loop protobuf relabel segment text)

cargo +nightly --version >/dev/null 2>&1 || { echo "fuzz: 'rustup toolchain install nightly' first" >&2; exit 1; }
if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $CARGO_FUZZ_VERSION" ]; then
  echo "fuzz: installing cargo-fuzz $CARGO_FUZZ_VERSION (a minute, once)" >&2
  cargo install cargo-fuzz --locked --version "$CARGO_FUZZ_VERSION"
fi

# Our code has nothing unsafe in it, so the address sanitizer would find nothing there, at half the speed.
fuzz() {
  local command=$1
  shift
  cargo +nightly fuzz "$command" --fuzz-dir . --sanitizer none "$@"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# quietly COMMAND…: shows what it said only where it fails, or as much of it as $show matches.
quietly() {
  "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  grep -E "$show" "$work/log" || true
}

for target in "${targets[@]}"; do
  fuzz build "$target"
done
for target in "${targets[@]}"; do
  seeds=("seeds/$target" "learned/$target")
  mkdir -p "corpus/$target"
  if [ "$target" = config ]; then
    # Those of the tests too; but what is refused only after a second would take most of the time.
    seeds+=("$work/config")
    mkdir "$work/config"
    find ../testdata/config -maxdepth 1 -name '*.yml' ! -name 'aliases-that-multiply*' -exec cp -t "$work/config" {} +
  fi
  limits=("-timeout=$INPUT_SECONDS_MAX" "-rss_limit_mb=$MEMORY_MIB_MAX" "-max_len=$INPUT_BYTES_MAX")
  echo "fuzz: $target: $(find "${seeds[@]}" -maxdepth 1 -type f | wc -l) inputs again, then $seconds s" >&2
  show='^Done' quietly fuzz run "$target" "${seeds[@]}" -- -runs=0 "${limits[@]}"
  show='^Done|^stat::peak_rss_mb' quietly fuzz run "$target" "corpus/$target" "${seeds[@]}" -- \
    "-max_total_time=$seconds" "-dict=dictionaries/$target.dict" -print_final_stats=1 "${limits[@]}"
  if [ "$keep" = 1 ]; then
    mkdir "$work/$target"
    show='^MERGE-OUTER.*new files' quietly fuzz run "$target" "$work/$target" "corpus/$target" "${seeds[@]}" -- \
      -set_cover_merge=1 -use_counters=0 "-timeout=$INPUT_SECONDS_MAX" "-rss_limit_mb=$MEMORY_MIB_MAX" -max_len=1024
    rm -r "learned/$target"
    mv "$work/$target" "learned/$target"
  fi
done
