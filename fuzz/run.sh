#!/usr/bin/env bash
# fuzz/run.sh SECONDS [TARGET…]: fuzzes each target (all without a name) for so long, beginning with its seeds and going
# on from what earlier runs found in fuzz/corpus. Works with the stable toolchain: libFuzzer is built from its crate
# (needs g++), and the flags are what cargo-fuzz would give to a nightly one, without a sanitizer (all that is fuzzed
# is safe Rust, but for libseccomp). An input that breaks a target is left in fuzz/artifacts: fix, and put it into fuzz/seeds.
set -eu
cd "$(dirname "$0")"
seconds=${1:?how many seconds for each target}
shift
# debug_assertions of std's collections are not built in; overflow checks of our own code are.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
# With a target named, the flags don't reach build scripts and macros.
triple=x86_64-unknown-linux-gnu
target=${CARGO_TARGET_DIR:-target}
# 3: libFuzzer can't be built here (no C++ compiler, a toolchain that does not know the flags): the caller goes on without.
cargo build -q --release --target "$triple" --package libfuzzer-sys || { echo "NOT TESTED: fuzzing guided by coverage: libFuzzer can't be built"; exit 3; }
cargo build -q --release --target "$triple"
if [ $# -eq 0 ]; then
  for file in targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
failed=0
for name; do
  mkdir -p "corpus/$name" artifacts
  log=$(mktemp)
  if "$target/$triple/release/$name" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
      -dict="dictionaries/$name.dict" -artifact_prefix="artifacts/$name-" "corpus/$name" "seeds/$name" >"$log" 2>&1; then
    echo "$name: $(grep -c . <(ls "corpus/$name")) inputs, $(grep -E '^Done|^#.*DONE' "$log" | tail -1)"
  else
    failed=1
    grep -v '^#\|^Word\|recommended' "$log" | tail -40
    echo "$name: FAILED, the input is in fuzz/artifacts"
  fi
  rm -f "$log"
done
exit $failed
