# shellcheck shell=bash
# Settings and helpers shared by build.sh and run.sh.  Sourced, never executed.
#
# Every setting can be overridden from the environment.

VM_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Where images and snapshots are kept.  Safe to delete at any time.
: "${VM_CACHE:=/var/cache/wharfinger-vm}"

# What the guest is made of.
: "${VM_SUITE:=trixie}"
: "${VM_MIRROR:=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)}"  # where the host's apt gets its packages from
: "${VM_KERNEL:=linux-image-amd64}"     # the "cloud" flavour lacks 9p
: "${VM_PACKAGES_EXTRA:=}"              # space separated, added to the list below
: "${VM_DISK:=16G}"                     # virtual size; the file is sparse

VM_PACKAGES=(
    systemd systemd-sysv dbus udev kmod
    runc crun conmon criu libcriu2
    podman
    iproute2 busybox-static socat procps util-linux jq strace libcap2-bin
    apparmor e2fsprogs python3-minimal
)

# What the guest runs on.
: "${VM_CPUS:=2}"
: "${VM_MEM:=3072}"                     # MiB
: "${VM_ACCEL:=auto}"                   # auto, kvm or tcg
: "${VM_TB_MIB:=512}"                   # translation cache of the emulator
: "${VM_APPEND:=}"                      # more kernel arguments
: "${VM_QEMU:=qemu-system-x86_64}"

# Host directories that can be shared at once.  The number of devices is part
# of the snapshot, so it is fixed; unused slots point to an empty directory.
VM_SHARE_SLOTS=4

vm_log() { printf 'vm: %s\n' "$*" >&2; }
vm_die() { vm_log "$*"; exit 125; }

# A /dev/kvm without kvm_intel or kvm_amd behind it is a software hypervisor
# (pvm) that needs a guest kernel made for it.  It interprets a stock kernel
# instruction by instruction, far slower than QEMU's translator, and gives up
# on the instructions it does not know.
vm_accel() {
    case $VM_ACCEL in
        kvm | tcg) printf '%s\n' "$VM_ACCEL" ;;
        auto)
            if [[ -w /dev/kvm ]] && [[ -d /sys/module/kvm_intel || -d /sys/module/kvm_amd ]]; then
                echo kvm
            else
                echo tcg
            fi
            ;;
        *) vm_die "VM_ACCEL: '$VM_ACCEL' is none of auto, kvm, tcg" ;;
    esac
}

# The CPU shown to the guest.  For the emulator, features are taken away that
# make it slower: string operations are emulated byte by byte (erms, fsrm),
# page walks get a fifth level (la57), kernel entries end a translation block
# more often (smap), and vector registers are only more state to keep.
# QEMU of before 8.0 knows not all of them, and refuses what it does not know.
vm_cpu() {
    local known feature cpu=max
    [[ $(vm_accel) == tcg ]] || { echo host; return; }
    known=$("$VM_QEMU" -cpu help | sed '1,/^Recognized CPUID flags/d' | tr -s '[:space:]' ' ')
    for feature in erms fsrm fzrm fsrs la57 smap smep pku avx avx2; do
        [[ " $known " != *" $feature "* ]] || cpu+=,-$feature
    done
    echo "$cpu"
}

vm_kernel_args() {
    local args=(
        console=ttyS0 quiet panic=-1 net.ifnames=0
        systemd.show_status=0 systemd.getty_auto=0
        # A throwaway guest needs no hardening of its own, and it is slow under emulation.
        mitigations=off nokaslr init_on_alloc=0
        # Waiting for grace periods is what namespace and mount teardown mostly does.
        rcupdate.rcu_expedited=1
        # The emulated CPUs stall whenever the host is busy.
        nowatchdog rcupdate.rcu_cpu_stall_suppress=1
        # The others come when the agent starts: while the kernel boots it patches its own code, and QEMU's translator
        # may run the breakpoint of such a patch on another processor after the patch is done: the kernel panics.
        maxcpus=1
        lsm=landlock,lockdown,yama,apparmor,bpf
    )
    printf '%s ' "${args[@]}" "$VM_APPEND"
}

# The image depends on the files it is made from and on the settings that go into it.
vm_image_dir() {
    local key
    key=$({
        # All but the suite, which the guest finds in the share.
        cat "$VM_DIR/build.sh" "$VM_DIR"/guest/{agent,init,vm-agent.service,vm-static-keys.service,static-keys,modules.conf,sysctl.conf}
        printf '%s\n' "$VM_SUITE" "$VM_MIRROR" "$VM_KERNEL" "$VM_DISK" "${VM_PACKAGES[*]}" "$VM_PACKAGES_EXTRA"
    } | sha256sum)
    printf '%s/image-%s\n' "$VM_CACHE" "${key:0:16}"
}

# A snapshot fits one QEMU and one set of virtual hardware only.
vm_snapshot_dir() {
    local key host=any
    [[ $(vm_accel) == kvm ]] && host=$(grep -m1 '^model name' /proc/cpuinfo)
    key=$({
        cat "$VM_DIR/lib.sh"
        "$VM_QEMU" --version
        printf '%s\n' "$(vm_accel)" "$(vm_cpu)" "$VM_CPUS" "$VM_MEM" "$(vm_kernel_args)" "$host"
    } | sha256sum)
    printf '%s/snapshot-%s\n' "$(vm_image_dir)" "${key:0:16}"
}

# vm_qemu_args WORKDIR MEMORY DISK-OPTIONS NETDEV-OPTIONS [SHARE...]
#
# Puts QEMU's arguments into the array QEMU_ARGS.  MEMORY is the start of the
# options of the guest's memory: its kind and where it is.  DISK-OPTIONS say where the disk is and how it is cached.  Each SHARE is a host
# directory, followed by ",readonly=on" for one that the guest must not write.
# Devices must come out the same for the snapshot and for what resumes it.
#
# The guest's agent talks through three virtio-serial ports: vm.ctl takes the
# command and gives its exit status, vm.out and vm.err carry its output.
vm_qemu_args() {
    local work=$1 memory=$2 disk=$3 net=$4 image accel i share
    shift 4
    image=$(vm_image_dir)
    accel=$(vm_accel)
    [[ $accel == tcg ]] && accel=tcg,thread=multi,tb-size=$VM_TB_MIB
    QEMU_ARGS=(
        -name wharfinger-vm -nodefaults -no-user-config -display none -no-reboot
        -machine q35,memory-backend=ram -accel "$accel" -cpu "$(vm_cpu)" -smp "$VM_CPUS"
        -m "$VM_MEM" -object "$memory,id=ram,size=${VM_MEM}M"
        -kernel "$image/vmlinuz" -initrd "$image/initrd" -append "$(vm_kernel_args)"
        -serial "file:$work/console"
        -drive "if=virtio,discard=unmap,$disk"
        -device virtio-rng-pci
        -netdev "user,id=net0,ipv6=off,restrict=on$net" -device virtio-net-pci,netdev=net0,romfile=
        -device virtio-serial-pci
        -chardev "pipe,id=ctl,path=$work/ctl" -device virtserialport,chardev=ctl,name=vm.ctl
        -chardev "file,id=out,path=$work/out" -device virtserialport,chardev=out,name=vm.out
        -chardev "file,id=err,path=$work/err" -device virtserialport,chardev=err,name=vm.err
    )
    mkdir -p "$work/empty"
    for ((i = 0; i < VM_SHARE_SLOTS; i++)); do
        share=${1:-$work/empty,readonly=on}
        (($# > 0)) && shift
        QEMU_ARGS+=(
            -fsdev "local,id=fs$i,security_model=passthrough,multidevs=remap,path=$share"
            -device "virtio-9p-pci,fsdev=fs$i,mount_tag=share$i"
        )
    done
}
