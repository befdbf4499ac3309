#!/bin/bash
# Builds the test VM: a Debian image with systemd and the container tools, and
# a snapshot of it taken right after boot.  What is already there and up to
# date is kept, so a second run takes well under a second.
#
# usage: build.sh [--image-only]
#
# Needs root, and Debian or a derivative as the host.  For settings see lib.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

image_only=
case ${1:-} in
    '') ;;
    --image-only) image_only=1 ;;
    *) vm_die "usage: build.sh [--image-only]" ;;
esac
[[ $EUID == 0 ]] || vm_die "build.sh must run as root"

# An image is built aside and renamed when complete.
mkdir -p "$VM_CACHE"
exec {lock}>"$VM_CACHE/lock"
flock "$lock"
work=$(mktemp -d "$VM_CACHE/build.XXXXXX")
qemu_pid=
cleanup() {
    [[ -z $qemu_pid ]] || kill -KILL "$qemu_pid" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Root file system, kernel and initrd, into the directory $1.
build_image() {
    local out=$1 root=$work/root kernel packages extra module path unit
    packages=("${VM_PACKAGES[@]}" "$VM_KERNEL")
    read -ra extra <<<"$VM_PACKAGES_EXTRA"

    vm_log "installing $VM_SUITE"
    # INITRD=No: the guest gets an initrd of our own below, so the one that the
    # kernel package would make is not needed.
    INITRD=No mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        --include="$(IFS=,; echo "${packages[*]}" "${extra[@]}" | tr ' ' ,)" \
        --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/gpu/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/media/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/infiniband/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/ethernet/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/wireless/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/scsi/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/staging/*' \
        --dpkgopt='path-exclude=/lib/modules/*/kernel/sound/*' \
        "$VM_SUITE" "$root" "$VM_MIRROR" </dev/null >&2

    vm_log "configuring"
    kernel=$(basename "$root"/lib/modules/*)
    install -D -m 755 -t "$root/usr/local/lib/vm" "$VM_DIR/guest/agent" "$VM_DIR/guest/static-keys"
    install -m 644 "$VM_DIR/guest/"vm-{agent,static-keys}.service "$root/etc/systemd/system/"
    install -m 644 "$VM_DIR/guest/modules.conf" "$root/etc/modules-load.d/vm.conf"
    install -m 644 "$VM_DIR/guest/sysctl.conf" "$root/etc/sysctl.d/90-vm.conf"
    echo vm >"$root/etc/hostname"
    printf '127.0.0.1 localhost vm\n::1 localhost\n' >"$root/etc/hosts"
    mkdir -p "$root/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/vm.conf"
    ln -s ../vm-agent.service "$root/etc/systemd/system/multi-user.target.wants/"
    mkdir -p "$root/etc/systemd/system/basic.target.wants"
    ln -s ../vm-static-keys.service "$root/etc/systemd/system/basic.target.wants/"
    # Compiling the profiles that packages bring takes half a minute under
    # emulation.  Profiles can still be loaded with apparmor_parser.
    for unit in apparmor e2scrub_reap getty@tty1 apt-daily{,-upgrade}.timer {dpkg-db-backup,fstrim}.timer; do
        [[ $unit == *.timer ]] || unit+=.service
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    # Else the first boot would run what belongs to an update of the system.
    touch "$root/etc/.updated" "$root/var/.updated"

    vm_log "making the initrd"
    mkdir -p "$out" "$work/initrd/bin" "$work/initrd/modules"
    cp "$root/usr/bin/busybox" "$work/initrd/bin/"
    install -m 755 "$VM_DIR/guest/init" "$work/initrd/init"
    for module in virtio_pci virtio_blk ext4; do
        chroot "$root" modprobe --set-version "$kernel" --show-depends "$module"
    done | awk '$1 == "insmod" { print $2 }' | while read -r path; do
        module=$(basename "${path%.xz}")
        if [[ ! -e $work/initrd/modules/$module ]]; then
            if [[ $path == *.xz ]]; then
                xz -dc "$root/$path" >"$work/initrd/modules/$module"
            else
                cp "$root/$path" "$work/initrd/modules/$module"
            fi
            echo "$module" >>"$work/initrd/modules/order"
        fi
    done
    (cd "$work/initrd" && find . | cpio --quiet -o -H newc) >"$out/initrd"
    cp "$root/boot/vmlinuz-$kernel" "$out/vmlinuz"

    vm_log "making the file system"
    truncate -s "$VM_DISK" "$out/root.img"
    mkfs.ext4 -q -F -L root -O verity -E lazy_itable_init=1,lazy_journal_init=1,nodiscard \
        -d "$root" "$out/root.img"
    rm -rf --one-file-system "$root"
}

# Boots the image and saves disk and memory once it is idle, into the directory $1.
build_snapshot() {
    local out=$1 run=$work/run line deadline=$((SECONDS + 300))
    mkdir -p "$out" "$run"
    mkfifo "$run"/{ctl,mon}.{in,out} "$run/out" "$run/err"
    qemu-img create -q -f qcow2 -F raw -b "$(vm_image_dir)/root.img" "$out/disk.qcow2"

    # The guest's memory is a file, which saves writing it to one afterwards; what
    # resumes it maps the file privately.
    vm_qemu_args "$run" "memory-backend-file,mem-path=$out/memory,share=on" \
        "cache=unsafe,format=qcow2,file=$out/disk.qcow2" ""
    cat "$run/out" >/dev/null &
    cat "$run/err" >/dev/null &
    # Opened for reading and writing, a FIFO neither blocks nor ends.
    exec {ctl}<>"$run/ctl.out" {mon_in}<>"$run/mon.in" {mon_out}<>"$run/mon.out"
    vm_log "booting, $(vm_accel)"
    setpriv --pdeathsig KILL "$VM_QEMU" "${QEMU_ARGS[@]}" \
        -chardev "pipe,id=mon,path=$run/mon" -mon chardev=mon,mode=readline </dev/null &
    qemu_pid=$!

    line=
    until [[ $line == READY ]]; do
        if ! kill -0 "$qemu_pid" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 30 "$run/console" >&2 || true
            vm_die "the guest did not boot"
        fi
        IFS= read -r -t 1 -u "$ctl" line || true
    done

    vm_log "saving its state"
    # Not stopped first, or what resumes it would come up stopped, too.
    printf 'migrate_set_capability x-ignore-shared on\nmigrate "exec:cat >%s"\n' "'$out/devices'" >&"$mon_in"
    until [[ $line == *'Migration status: completed'* || $line == *'Status: completed'* ]]; do
        if ! kill -0 "$qemu_pid" 2>/dev/null || ((SECONDS > deadline)) || [[ $line == *[Ss]tatus:\ failed* ]]; then
            vm_die "the snapshot failed: $line"
        fi
        echo 'info migrate' >&"$mon_in"
        sleep 0.2
        while IFS= read -r -t 0.2 -u "$mon_out" line; do
            [[ $line == *tatus:\ * ]] && break
        done
    done
    echo quit >&"$mon_in"
    wait "$qemu_pid" || true
    qemu_pid=
    exec {ctl}>&- {mon_in}>&- {mon_out}>&-
}

"$VM_DIR/../setup.sh" image
image=$(vm_image_dir)
if [[ ! -e $image ]]; then
    build_image "$work/image"
    mv "$work/image" "$image"
    # Images of other versions of these files are of no use any more.
    find "$VM_CACHE" -mindepth 1 -maxdepth 1 -name 'image-*' ! -path "$image" -exec rm -rf {} +
fi
if [[ -z $image_only ]]; then
    snapshot=$(vm_snapshot_dir)
    if [[ ! -e $snapshot ]]; then
        find "$image" -mindepth 1 -maxdepth 1 -name 'snapshot-*' -exec rm -rf {} +
        build_snapshot "$work/snapshot"
        mv "$work/snapshot" "$snapshot"
    fi
fi
vm_log "ready: $image, $(du -sm "$image" | cut -f1) MiB"
