#!/usr/bin/env bash
# An orderly reboot with containers alive, and a power cut while states change: after each, what was acknowledged is there,
# and nothing of the old boot is called alive. The state root is on the guest's disk, which is kept.
#
# boot 1: containers, one over with a code; shut down    boot 2: look; churn, and the host kills the guest    boot 3: look
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Acknowledged changes of containers and of bare records to wait for before the cut.
: "${VM_CUT_ACKS:=40}" "${VM_CUT_RECORDS:=600}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/wharfinger-cut.XXXXXX")
guest=
trap '[[ -z $guest ]] || kill "$guest" 2>/dev/null || true; rm -rf "$dir"' EXIT
boot() { "$here/dev/vm/run.sh" -t 400 --disk "$dir/disk.qcow2" -s "$here:$here:ro" -s "$dir:/acks:ro" -- "$here/target/vm/guest/suite" --one "$1"; }

status=0
boot reboot-before || status=$?
# 125: QEMU is gone, since the guest was switched off.
((status == 125)) || { echo "FAIL the guest did not shut down: $status"; exit 1; }
boot reboot-after

mkfifo "$dir/out"
"$here/dev/vm/run.sh" -t 400 --disk "$dir/disk.qcow2" -s "$here:$here:ro" -- "$here/target/vm/guest/suite" --one cut-before >"$dir/out" &
guest=$!
count=0 records=0 first=
exec {acks}>"$dir/acks"
while read -r line; do
    case $line in
        "ACK r"*) records=$((records + 1)); first=${first:-$EPOCHREALTIME} ;;
        "ACK "*) count=$((count + 1)) ;;
        *) echo "$line"; continue ;;
    esac
    echo "$line" >&"$acks"
    # The rest that was printed before the end counts as well.
    if ((count >= VM_CUT_ACKS && records >= VM_CUT_RECORDS)) && [[ -n $guest ]]; then
        rate=$(awk -v n="$records" -v a="$first" -v b="$EPOCHREALTIME" 'BEGIN { printf "%d", n / (b - a) }')
        kill "$guest"
        guest=
    fi
done <"$dir/out"
exec {acks}>&-
wait
echo "power cut after $count acknowledged changes of containers and $records of records, ${rate:-0} a second"
((${rate:-0} >= 100)) || echo "NOT TESTED: a hundred changes a second: this guest makes ${rate:-0}"
((count >= VM_CUT_ACKS && records >= VM_CUT_RECORDS)) || { echo "FAIL too few changes"; exit 1; }
boot cut-after
