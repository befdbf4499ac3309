#!/usr/bin/env bash
# Shows the whole life of a real container through `wharf`: make run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "building (the first time takes some minutes) …"
cargo build --quiet --release --package ctl --bin wharf
cargo xtask build >/dev/null

work=$(mktemp -d /tmp/wharf-demo.XXXXXX)
programs=$work/bin
mkdir -p "$programs" "$work/root" "$work/rootfs"/{bin,proc,dev,sys,tmp,etc,root}
cp target/release/wharf target/static/wharf-monitor target/static/wharf-oci "$programs/"
cp "$(type -P busybox || echo /bin/busybox)" "$work/rootfs/bin/busybox"
for applet in sh echo cat sleep ps id hostname true date wc head grep ls; do
    ln -s busybox "$work/rootfs/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$work/rootfs/etc/passwd"

wharf=("$programs/wharf" --root "$work/root")
cleanup() {
    "${wharf[@]}" rm --force demo >/dev/null 2>&1 || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# Runs a step, shows it, its output, its exit status if that is not 0, and how long it took.
step() {
    local begin=$EPOCHREALTIME status=0
    printf '\n\033[1m$ wharf' >&2
    printf ' %q' "$@" >&2
    printf '\033[0m\n' >&2
    "${wharf[@]}" "$@" || status=$?
    ((status == 0)) || printf '   exit status %d' "$status"
    printf '   [%d ms]\n' $((((${EPOCHREALTIME/./} - ${begin/./})) / 1000))
    last=$status
}

must() {
    step "$@"
    ((last == 0)) || { echo "demo: the step above failed" >&2; exit 1; }
}

must check
must handlers
step run --rm --name hello --rootfs "$work/rootfs" sh -c 'echo "hello from pid $$ of $(hostname)"; exit 7'
((last == 7)) || { echo "demo: want exit status 7" >&2; exit 1; }
must create --name demo --memory 64m --pids-limit 64 --rootfs "$work/rootfs" \
    sh -c 'trap "echo going; exit 3" TERM; n=0; while :; do echo "tick $n"; n=$((n+1)); sleep 0.2; done'
must start demo
must ps
must exec demo sh -c 'echo "exec sees:"; ps; exit 0'
step exec demo sh -c 'exit 5'
((last == 5)) || { echo "demo: want exit status 5" >&2; exit 1; }
must update --memory 128m demo
must stats demo
must pause demo
must ps
must resume demo
must logs --tail 3 demo
must stop --time 10 demo
must inspect demo
must logs --tail 1 demo
must rm demo
must ps --all
echo
echo "demo: all steps done"
