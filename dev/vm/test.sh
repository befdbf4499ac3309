#!/usr/bin/env bash
# The real-container suites on a node as people run it: make test-vm
#
# usage: test.sh [all | GROUP…]      without: what fits into fifteen minutes; see the lists below
#        make test-vm | test-vm-all | test-vm GROUPS="GROUP…"
#
# Tests and programs are built outside, staged below target/vm, and shared with the guest read-only. Groups that are joined by
# a comma run at once in one guest; each argument has a guest of its own, and none sees what another left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=$PWD
vm=$here/dev/vm
out=$here/target/vm
# What the default list may take, guests and all; and what one guest may.
: "${VM_TEST_BUDGET:=870}" "${VM_TEST_SECONDS:=1500}"

# A guest's groups, and the seconds they took under QEMU 7.2's emulation on two quiet cores (from ocirun on: about). The default list takes them in this
# order as long as the budget allows, by the pace so far: a machine with KVM gets through all of them.
batches=(
    memory,apparmor,notify 102
    reboot 226
    reload,sys 90
    oci:systemd,oci:cgroupfs 80
    life:wharf-oci:wharf-monitor:systemd,life:runc:conmon:systemd 85
    life:crun:conmon:cgroupfs,life:wharf-oci:conmon:cgroupfs 46
    life:runc:wharf-monitor:cgroupfs,life:crun:wharf-monitor:systemd 50
    checkpoint 50
    podman:wharf-oci:systemd,podman:runc:cgroupfs 58
    podman:crun:systemd,podman:wharf-oci:cgroupfs 55
    ocirun 300
    monitor:wharf-oci 300
    monitor 600
    runtime:wharf-oci:wharf-monitor:systemd 600
    runtime:wharf-oci:wharf-monitor:cgroupfs 600
    runtime:runc:conmon:systemd 600
    runtime:runc:wharf-monitor:cgroupfs 600
    runtime:crun:conmon:systemd 600
    runtime:crun:wharf-monitor:cgroupfs 600
)

# Programs and test binaries as they are now, so that a build meanwhile does not disturb.
stage() {
    local file
    # For work on the groups themselves: what was built last, with the scripts as they are.
    if [[ -n ${VM_TEST_KEEP:-} ]]; then
        rm -rf "$out/guest" && cp -r "$vm/guest" "$out/guest"
        return
    fi
    echo "building tests and programs"
    mkdir -p "$out"
    cargo xtask build
    cargo build --quiet --package ctl --bin wharf
    cargo nextest list --package sys --package ocirun --package monitor --package runtime --list-type binaries-only --message-format json >"$out/binaries.json"
    cargo metadata --format-version 1 >"$out/metadata.json"
    rm -rf "$out/target" "$out/guest" "$out/logs"
    mkdir -p "$out/target/static" "$out/logs"
    cp "$here"/target/static/wharf-{oci,monitor} "$here/target/debug/wharf" "$(type -P cargo-nextest)" "$out/target/static/"
    mkdir -p "$out/target/debug/examples"
    cargo build --quiet --package sys --example records
    cp "$here/target/debug/examples/records" "$out/target/debug/examples/"
    cp -r "$vm/guest" "$out/guest"
    grep -oE "\"$here/target/[^\"]+\"" "$out/binaries.json" | tr -d '"' | sort -u | while read -r file; do
        [[ -f $file ]] || continue
        mkdir -p "$out/target/$(dirname "${file#"$here/target/"}")"
        # Half of a file is what debuggers read; the guest would carry it over its share.
        objcopy --strip-debug "$file" "$out/target/${file#"$here/target/"}"
    done
    objcopy --strip-debug "$out/target/static/wharf"
    "$vm/build.sh"
}

passed=0 failed=0 untested=0 cpu=0 lines=()
# account GROUP STATUS SECONDS: reads the group's own counts: nextest's summary, or a closing line of ours.
account() {
    local log=$out/logs/${1//:/-}.log ok bad again
    # The reboots have one for each boot that looks.
    ok=$(grep -E 'Summary|passed,' "$log" | grep -oE '[0-9]+ passed' | awk '{ n += $1 } END { print n + 0 }' || true)
    bad=$(grep -E 'Summary|passed,' "$log" | grep -oE '[0-9]+ (failed|timed out)' | awk '{ n += $1 } END { print n + 0 }' || true)
    untested=$((untested + $(grep -c 'NOT TESTED' "$log" || true)))
    again=$(grep -cE '^ *FLAKY' "$log" || true)
    (($2 == 0 || ${bad:-0} > 0)) || bad=1
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0}))
    lines+=("$(printf '%-46s %6s %6s %6d s%s' "$1" "${ok:-0}" "${bad:-0}" "$3" "${again/#0/}" | sed -E 's/ s([0-9]+)$/ s, \1 at the second try/')")
    printf '%s\n' "${lines[-1]}"
    (($2 != 124)) || echo "    not over after $3 s"
    grep -E '^ *(FAIL|TRY [0-9]+ FAIL|TIMEOUT|SIGABRT|FLAKY)|NOT TESTED' "$log" | cut -c1-200 | sort -u | sed 's/^ */    /' || true
}

# guest GROUP…: runs them at once in a guest; fails if its kernel panicked, as the emulator's do now and then.
guest() {
    "$vm/run.sh" -t "$VM_TEST_SECONDS" -s "$here:$here:ro" -s "$out/logs:/var/tmp/logs" -e WHARF_TEST_SLOW=10 \
        -- "$out/guest/suite" "$@" >"$out/logs/guest.log" 2>&1 || true
    ! grep -q 'Kernel panic' "$out/logs/guest.log" || { cp "$out/logs/guest.log" "$out/logs/panic.log"; return 1; }
}

# batch GROUP,GROUP…
batch() {
    local group begin=$SECONDS status names used
    IFS=, read -ra names <<<"$1"
    if [[ $1 == reboot ]]; then
        status=0
        "$vm/reboot.sh" >"$out/logs/reboot.log" 2>&1 || status=$?
        echo "$status $((SECONDS - begin))" >"$out/logs/reboot.status"
    elif ! guest "${names[@]}"; then
        echo "    the guest's kernel panicked ($out/logs/panic.log); once more in another"
        guest "${names[@]}" || true
    fi
    local log=guest
    [[ $1 != reboot ]] || log=reboot
    used=$(cat "$out/logs/$log.log" 2>/dev/null | sed -n 's/^vm: \([0-9]*\) s of processor time$/\1/p' | awk '{ n += $1 } END { print n + 0 }' || true)
    for group in "${names[@]}"; do
        touch "$out/logs/${group//:/-}.log"
        if [[ -e $out/logs/${group//:/-}.status ]]; then
            # shellcheck disable=SC2046
            account "$group" $(<"$out/logs/${group//:/-}.status")
        else
            tail -n 5 "$out/logs/guest.log" | sed 's/^/    /'
            account "$group" 124 $((SECONDS - begin))
        fi
    done
    cpu=$((cpu + used))
    printf '%-46s %22d s, %d s of processor time\n' "that guest" $((SECONDS - begin)) "$used"
    rm -f "$out/logs/guest.log"
}

todo=() skipped=() budget=$VM_TEST_BUDGET
case ${1:-} in
    '') ;;
    all) budget=$((24 * 3600)) ;;
    *) budget=0 ;;
esac
stage
printf '\n%-46s %6s %6s\n' "group in the guest" passed failed
begin=$SECONDS planned=0
if ((budget == 0)); then
    for names; do batch "$names"; done
else
    for ((i = 0; i < ${#batches[@]}; i += 2)); do
        spent=$((SECONDS - begin)) next=${batches[i + 1]}
        # At the pace so far.
        ((planned == 0 || spent == 0)) || next=$((next * spent / planned))
        if ((spent + next > budget)); then
            skipped+=("${batches[i]}")
            continue
        fi
        batch "${batches[i]}"
        planned=$((planned + batches[i + 1]))
    done
fi

echo
for names in "${skipped[@]}"; do
    echo "NOT TESTED: ${names//,/, }: too slow here for $((budget / 60)) minutes: make test-vm GROUPS=$names"
done
echo "$passed passed, $failed failed, $((untested + ${#skipped[@]})) not tested and named above; $((SECONDS - begin)) s, $cpu s of processor time"
((failed == 0))
