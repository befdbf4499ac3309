#!/usr/bin/env bash
# The real-container suites on a node as people run it: make test-vm
#
# usage: test.sh [all | GROUP…]      without: what fits into fifteen minutes; see the lists below
#
# Tests and programs are built outside, and the workspace is shared with the guest read-only at its own
# path. Each group runs in a guest of its own, so that none sees what another left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=$PWD
vm=$here/dev/vm
out=$here/target/vm
limit=${VM_TEST_SECONDS:-900}

groups=(
    oci:systemd oci:cgroupfs apparmor reload sys
    runtime:wharf-oci:wharf-monitor:systemd:quick
)
slow=(
    podman reboot monitor ocirun
    runtime:wharf-oci:wharf-monitor:systemd runtime:wharf-oci:wharf-monitor:cgroupfs
    runtime:runc:conmon:systemd runtime:runc:wharf-monitor:cgroupfs
    runtime:crun:conmon:systemd runtime:crun:wharf-monitor:cgroupfs
)
too_slow=()
if (($# == 0)); then
    too_slow=("${slow[@]}")
elif [[ $1 == all ]]; then
    groups+=("${slow[@]}")
else
    groups=("$@")
fi

echo "building tests and programs"
mkdir -p "$out"
cargo xtask build
cargo build --quiet --package ctl --bin wharf
cargo nextest list --package sys --package ocirun --package monitor --package runtime --list-type binaries-only --message-format json >"$out/binaries.json"
cargo metadata --format-version 1 >"$out/metadata.json"
cp "$(type -P cargo-nextest)" "$out/cargo-nextest"
"$vm/build.sh"

passed=0 failed=0 lines=()
for group in "${groups[@]}"; do
    printf '\n== vm: %s\n' "$group"
    log=$out/${group//:/-}.log begin=$SECONDS status=0
    if [[ $group == reboot ]]; then
        "$vm/reboot.sh" 2>&1 | tee "$log" || status=$?
    else
        "$vm/run.sh" -t "$limit" -s "$here:$here:ro" -e "WHARF_PROGRAMS=$here/target/static" -e WHARF_TEST_SLOW=10 \
            -- "$vm/guest/suite" "$group" 2>&1 | tee "$log" || status=$?
    fi
    # The group's own counts: nextest's summary, or a closing line of ours.
    ok=$(grep -oE '[0-9]+ passed' "$log" | tail -n 1 | cut -d' ' -f1 || true)
    bad=$(grep -E 'Summary|passed,' "$log" | tail -n 1 | grep -oE '[0-9]+ (failed|timed out)' | awk '{ n += $1 } END { print n + 0 }' || true)
    ((status == 0 || ${bad:-0} > 0)) || bad=1
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0}))
    lines+=("$(printf '%-46s %6s %6s %6d s' "$group" "${ok:-0}" "${bad:-0}" $((SECONDS - begin)))")
    grep -E '^ *(FAIL|TIMEOUT|SIGABRT)|NOT TESTED' "$log" | cut -c1-160 | sort -u | sed 's/^/    /' || true
done

printf '\n%-46s %6s %6s\n' "group in the guest" passed failed
printf '%s\n' "${lines[@]}"
for group in "${too_slow[@]}"; do
    echo "NOT TESTED: $group is too slow here: dev/vm/test.sh $group"
done
echo "$passed passed, $failed failed"
((failed == 0))
