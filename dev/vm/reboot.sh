#!/usr/bin/env bash
# An orderly reboot with containers alive, and a power cut while states change: after each, what was acknowledged is there,
# and nothing of the old boot is called alive. The state root is on the guest's disk, which is kept.
#
# boot 1: containers, one over with a code; shut down    boot 2: look; churn, and the host kills the guest    boot 3: look
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Acknowledgements to wait for before the cut.
: "${VM_CUT_ACKS:=60}"
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
count=0
while read -r line; do
    [[ $line == ACK* ]] || { echo "$line"; continue; }
    echo "$line" >>"$dir/acks"
    count=$((count + 1))
    # The rest that was printed before the end counts as well.
    ((count != VM_CUT_ACKS)) || kill "$guest"
done <"$dir/out"
wait "$guest" || true
guest=
echo "power cut after $count acknowledged changes"
((count >= VM_CUT_ACKS)) || { echo "FAIL too few changes"; exit 1; }
boot cut-after
