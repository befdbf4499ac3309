#!/bin/bash
# Runs a command as root in a throwaway copy of the test VM.
#
# usage: run.sh [OPTION...] -- COMMAND [ARGUMENT...]
#
#   -t, --timeout SECONDS       kill the VM after that long (600)
#   -s, --share DIR[:PATH[:ro]] show the host's DIR in the guest at PATH (/share);
#                               up to 4 times.  The command starts in the first.
#   -e, --env NAME=VALUE        set a variable for the command
#   -f, --forward PORT          make 127.0.0.1:PORT of the host reachable as
#                               10.0.2.100:PORT; the guest has no other network
#       --disk FILE             keep the guest's disk in FILE (made if it is not there) and boot from it.
#                               The end of run.sh is a power cut: the guest is killed, and what it wrote and
#                               did not flush is lost, as from a disk with a volatile cache
#       --console FILE          keep what the kernel and systemd print
#       --cold                  boot, even if there is a snapshot to resume
#
# The command's output comes out as such, and its exit status is that of run.sh;
# 124: it ran out of time, 125: the VM failed.  Nothing that the guest writes
# stays, apart from what it writes to a share.  Build the VM first: build.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() { sed -n '/^# usage/,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 125; }

timeout=600 cold='' console='' keep='' net='' shares=() script='' resume=''
while (($# > 0)); do
    case $1 in
        --) shift; break ;;
        --cold) cold=1; shift; continue ;;
        -t | --timeout | -s | --share | -e | --env | -f | --forward | --console | --disk) (($# > 1)) || usage ;;
        *) usage ;;
    esac
    case $1 in
        -t | --timeout) timeout=$2 ;;
        -e | --env) printf -v script '%sexport %q\n' "$script" "$2" ;;
        -f | --forward) net+=",guestfwd=tcp:10.0.2.100:$2-cmd:socat - TCP:127.0.0.1:$2" ;;
        --console) console=$2 ;;
        --disk) keep=$2 cold=1 ;;
        -s | --share)
            IFS=: read -r dir path mode <<<"$2"
            [[ -d $dir ]] || vm_die "--share: '$dir' is no directory"
            ((${#shares[@]} < VM_SHARE_SLOTS)) || vm_die "--share: $VM_SHARE_SLOTS at most"
            dir=$(realpath "$dir") path=${path:-/share}
            # Writes go straight to the host; a read-only share may be cached at will.
            cache=mmap
            [[ $mode != ro ]] || cache=loose,ro
            printf -v script '%smkdir -p %q && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=%s share%d %q || exit 125\n' \
                "$script" "$path" "$cache" ${#shares[@]} "$path"
            ((${#shares[@]} > 0)) || start=$path
            [[ $mode != ro ]] || dir+=,readonly=on
            shares+=("$dir")
            ;;
    esac
    shift 2
done
(($# > 0)) || usage
[[ $timeout =~ ^[0-9]+$ ]] || vm_die "--timeout: '$timeout' is no number of seconds"
printf -v script '%scd %q\n%s' "$script" "${start:-/}" "exec ${*@Q}"

image=$(vm_image_dir)
snapshot=$(vm_snapshot_dir)
[[ -e $image/root.img ]] || vm_die "no image: run build.sh first"

work=$(mktemp -d "${TMPDIR:-/tmp}/wharfinger-vm.XXXXXX")
qemu_pid='' disk_pid='' copiers=()
cleanup() {
    status=$?
    trap '' INT TERM HUP
    if [[ -n $qemu_pid ]]; then
        # What it cost, which says more than the time where others use the machine too.
        awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "vm: %d s of processor time\n", ($12 + $13) / hz }' "/proc/$qemu_pid/stat" >&2 2>/dev/null || true
        # The disk's cache goes first, and the guest must not see it go.
        if [[ -n $disk_pid ]]; then
            kill -STOP "$qemu_pid" 2>/dev/null || true
            kill -KILL "$disk_pid" 2>/dev/null || true
            wait "$disk_pid" 2>/dev/null || true
        fi
        kill -KILL "$qemu_pid" 2>/dev/null || true
        wait "$qemu_pid" 2>/dev/null || true
    fi
    # With QEMU gone, these have reached the end of the output.
    ((${#copiers[@]} == 0)) || wait "${copiers[@]}" || true
    [[ -z $console || ! -e $work/console ]] || cp "$work/console" "$console" || true
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkfifo "$work"/{ctl,mon}.{in,out} "$work/out" "$work/err"
if [[ -z $cold && -e $snapshot ]]; then
    vm_qemu_args "$work" "memory-backend-file,mem-path=$snapshot/memory,share=off,readonly=off" \
        "cache=unsafe,format=qcow2,file=$snapshot/disk.qcow2,snapshot=on" "$net" "${shares[@]}"
    QEMU_ARGS+=(-incoming defer -chardev "pipe,id=mon,path=$work/mon" -mon chardev=mon,mode=readline)
    resume="migrate_set_capability x-ignore-shared on"$'\n'"migrate_incoming \"exec:cat '$snapshot/devices'\""
elif [[ -n $keep ]]; then
    [[ -e $keep ]] || cp --sparse=always --reflink=auto "$image/root.img" "$keep"
    # What the guest writes stays in the server's temporary file until the guest flushes; only then it goes to the disk's, which
    # need not be flushed in turn: the host does not lose its power.
    TMPDIR=$work setpriv --pdeathsig KILL nbdkit --foreground --unix "$work/disk.sock" --filter=cache --filter=fua \
        file "$keep" cache=writeback cache-min-block-size=4K fuamode=discard >&2 &
    disk_pid=$!
    for ((i = 0; i < 100; i++)); do
        [[ ! -S $work/disk.sock ]] || break
        sleep 0.1
    done
    vm_qemu_args "$work" memory-backend-ram \
        "cache=writeback,format=raw,file.driver=nbd,file.server.type=unix,file.server.path=$work/disk.sock" "$net" "${shares[@]}"
else
    vm_qemu_args "$work" memory-backend-ram "cache=unsafe,format=raw,file=$image/root.img,snapshot=on" "$net" "${shares[@]}"
fi

# QEMU opens the ports for output only when someone reads them.
cat "$work/out" & copiers+=($!)
cat "$work/err" >&2 & copiers+=($!)
# Opened for reading and writing, a FIFO neither blocks nor ends.
exec {ctl_in}<>"$work/ctl.in" {ctl_out}<>"$work/ctl.out" {mon_in}<>"$work/mon.in"

# The VM must not outlive this script, not even when that is killed.  The
# temporary overlay of the disk goes to TMPDIR.
TMPDIR=$work setpriv --pdeathsig KILL "$VM_QEMU" "${QEMU_ARGS[@]}" </dev/null >&2 {ctl_in}>&- {ctl_out}>&- {mon_in}>&- &
qemu_pid=$!
[[ -z $resume ]] || echo "$resume" >&"$mon_in"

# The guest takes this as soon as it listens.
printf 'RUN %s %q\n' "$EPOCHSECONDS" "$script" >&"$ctl_in"

deadline=$((SECONDS + timeout))
while ((SECONDS < deadline)); do
    if read -r -t 1 -u "$ctl_out" word status && [[ $word == EXIT ]]; then
        exit "$status"
    fi
    if ! kill -0 "$qemu_pid" 2>/dev/null; then
        vm_log "the VM has died; its last words:"
        tail -n 40 "$work/console" >&2 || true
        exit 125
    fi
done
vm_log "out of time after $timeout s; the VM is killed"
exit 124
