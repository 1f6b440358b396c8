#!/usr/bin/env bash
# End-to-end tests: the real binary against real servers, on loopback and in network namespaces of their own only.
#
#   tests/e2e.sh            the short form of every test
#   tests/e2e.sh --full     the full form: the same code with longer times
#   tests/e2e.sh NAME…      only tests whose name contains one of these
#
# What the tests need is fetched from the package registries once and kept under
# ${XDG_CACHE_HOME:-~/.cache}/promring-e2e. A part that is missing fails the run; nothing is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

cache="${XDG_CACHE_HOME:-$HOME/.cache}/promring-e2e"
mkdir -p "$cache"

full=0
names=()
for argument in "$@"; do
  case "$argument" in
    --full) full=1 ;;
    -h | --help) sed -n '2,9p' "$0" | cut -c3-; exit 0 ;;
    -*) echo "e2e: unknown flag $argument; see --help" >&2; exit 2 ;;
    *) names+=("$argument") ;;
  esac
done

# debian_part PACKAGE PATH-IN-PACKAGE: unpacks a Debian package without installing it (no service is started) and
# prints the path of the program.
debian_part() {
  local package=$1 program=$2
  local dir="$cache/debian-$package"
  if [ ! -x "$dir/$program" ]; then
    echo "e2e: fetching Debian's $package" >&2
    local work
    work=$(mktemp -d)
    if ! apt-cache show "$package" >/dev/null 2>&1; then
      apt-get update -qq >&2 || { echo "e2e: apt-get update failed; $package cannot be fetched" >&2; exit 1; }
    fi
    (cd "$work" && apt-get download -qq "$package" >&2) || {
      echo "e2e: $package cannot be fetched; on Debian run 'apt-get update' and try again" >&2
      exit 1
    }
    rm -rf "$dir" && mkdir -p "$dir"
    dpkg-deb -x "$work"/*.deb "$dir"
    rm -rf "$work"
  fi
  [ -x "$dir/$program" ] || { echo "e2e: $package has no $program" >&2; exit 1; }
  echo "$dir/$program"
}

# need_go PROGRAM: Go is there, or the run fails.
need_go() {
  command -v go >/dev/null || { echo "e2e: Go is needed to build $1; install it" >&2; exit 1; }
  echo "e2e: building $1 (minutes, once)" >&2
}

# go_part MODULE PROGRAM PACKAGE [TAGS [LDFLAGS]]: builds a program of a Go module under tests/parts and prints its
# path. The module's checksums and sources are part of the path, so that a new version is a new build.
go_part() {
  local module=$1 program=$2 package=$3 tags=${4:-} ldflags=${5:-}
  local hash dir
  hash=$(find "tests/parts/$module" -name '*.go' -print0 | sort -z |
    xargs -0 cat "tests/parts/$module/go.mod" "tests/parts/$module/go.sum" | sha256sum | cut -c1-16)
  dir="$cache/$module-$hash"
  if [ ! -x "$dir/$program" ]; then
    need_go "$program"
    mkdir -p "$dir"
    (cd "tests/parts/$module" &&
      CGO_ENABLED=0 go build -ldflags "-s -w $ldflags" -tags "$tags" -o "$dir/$program.new" "$package") >&2
    mv "$dir/$program.new" "$dir/$program"
  fi
  echo "$dir/$program"
}

# go_tool PROGRAM PACKAGE VERSION: builds a published Go program as it is, and prints its path.
go_tool() {
  local program=$1 package=$2 version=$3
  local dir="$cache/$program-$version"
  if [ ! -x "$dir/$program" ]; then
    need_go "$program"
    CGO_ENABLED=0 GOBIN="$dir" go install -ldflags "-s -w" "$package@$version" >&2
  fi
  echo "$dir/$program"
}

PROMETHEUS=$(debian_part prometheus usr/bin/prometheus)
VICTORIA_METRICS=$(debian_part victoria-metrics usr/bin/victoria-metrics)
NODE_EXPORTER=$(debian_part prometheus-node-exporter usr/bin/prometheus-node-exporter)
PROMTOOL=$(go_part prometheus promtool github.com/prometheus/prometheus/cmd/promtool remove_all_sd,enable_kubernetes_sd,enable_dns_sd)
PROMETHEUS_3=$(go_part prometheus prometheus github.com/prometheus/prometheus/cmd/prometheus remove_all_sd,enable_kubernetes_sd,enable_dns_sd)
PROMTOOL_2_42=$(debian_part prometheus usr/bin/promtool)
# etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kubectl; clients parse the version that they say.
kubernetes=$(sed -n 's|^\tk8s.io/kubernetes ||p' tests/parts/kubernetes/go.mod)
KUBERNETES=$(go_part kubernetes kubernetes . "" "-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes")
HELM=$(go_tool helm helm.sh/helm/v4/cmd/helm v4.3.1)
OTELCOL=$(go_part otelcol otelcol .)
VMAGENT=${VMAGENT:-$(debian_part victoria-metrics usr/bin/vmagent)}
export PROMETHEUS PROMETHEUS_3 VICTORIA_METRICS NODE_EXPORTER PROMTOOL PROMTOOL_2_42 KUBERNETES HELM OTELCOL VMAGENT
export PROMRING_E2E_FULL=$full
# The short form says whether a change has broken something, so it does not depend on chance; the full form looks for more.
if [ "$full" != 1 ]; then
  export PROMRING_E2E_SEED=${PROMRING_E2E_SEED:-4284888774}
fi

# One test at a time: each starts several servers, and two cores are soon busy.
exec cargo test --locked --release --features e2e --test e2e -- --test-threads 1 --nocapture "${names[@]}"
