#!/usr/bin/env bash
# An orderly reboot with containers alive, and a power cut while states change: after each, what was acknowledged is there,
# nothing of the old boot is called alive, and no exit is made up. The state root is on the guest's disk, which is kept.
#
# boot 1: containers, one over with a code; shut down    boot 2: look; churn, and the host kills the guest    boot 3: look
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# The cut comes after so many acknowledged changes of containers and of bare records, or, where this takes longer than so many
# seconds, after a third of them.
: "${VM_CUT_ACKS:=120}" "${VM_CUT_RECORDS:=2000}" "${VM_CUT_SECONDS:=60}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/wharfinger-cut.XXXXXX")
guest=
trap '[[ -z $guest ]] || kill "$guest" 2>/dev/null || true; rm -rf "$dir"' EXIT
# boot GROUP…: one after the other.
boot() {
    local line='' group
    for group; do line+="${line:+ && }$here/target/vm/guest/suite --one $group"; done
    exec "$here/dev/vm/run.sh" -t 600 --disk "$dir/disk" -e WHARF_TEST_SLOW=10 -s "$here:$here:ro" -s "$dir:/acks:ro" -- bash -c "$line"
}

status=0
(boot reboot-before) || status=$?
# 125: QEMU is gone, since the guest was switched off.
((status == 125)) || { echo "FAIL the guest did not shut down: $status"; exit 1; }

# Per second since the first of its kind: rate COUNT FIRST
rate() { awk -v n="$1" -v a="$2" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", n / (b - a) }'; }
mkfifo "$dir/out"
boot reboot-after cut-before >"$dir/out" &
guest=$!
count=0 records=0 begin='' first='' first_record='' rate=0 record_rate=0
exec {acks}>"$dir/acks"
while read -r line; do
    case $line in
        "ACK r"[0-9]*) records=$((records + 1)) first_record=${first_record:-$EPOCHREALTIME} ;;
        "ACK "*) count=$((count + 1)) first=${first:-$EPOCHREALTIME} begin=${begin:-$SECONDS} ;;
        *) echo "$line"; continue ;;
    esac
    echo "$line" >&"$acks"
    share=1
    ((SECONDS - ${begin:-SECONDS} < VM_CUT_SECONDS)) || share=3
    # The rest that was printed before the end counts as well.
    if [[ -n $guest ]] && ((count * share >= VM_CUT_ACKS && records * share >= VM_CUT_RECORDS)); then
        rate=$(rate "$count" "$first") record_rate=$(rate "$records" "$first_record")
        kill "$guest"
        guest=
    fi
done <"$dir/out"
exec {acks}>&-
wait
echo "power cut after $count acknowledged changes of containers, $rate a second, and $records of bare records, $record_rate a second"
((${rate%.*} >= 100)) || echo "NOT TESTED: a hundred changes of containers a second: this guest makes $rate"
((${record_rate%.*} >= 100)) || echo "NOT TESTED: a hundred changes of bare records a second: this guest makes $record_rate"
[[ -z $guest ]] || { echo "FAIL too few changes"; exit 1; }
(boot cut-after)
