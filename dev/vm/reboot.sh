#!/usr/bin/env bash
# A power cut, and a boot after it: what was acknowledged is there, and nothing of the old boot is called
# alive. The state root is on the guest's disk, which is kept between the two.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
disk=$(mktemp -u "${TMPDIR:-/tmp}/wharfinger-cut.XXXXXX.qcow2")
trap 'rm -f "$disk"' EXIT
run=("$here/dev/vm/run.sh" -t 600 --disk "$disk" -s "$here:$here:ro")
"${run[@]}" -- "$here/dev/vm/guest/suite" before-cut
"${run[@]}" -- "$here/dev/vm/guest/suite" after-cut
