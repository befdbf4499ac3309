#!/usr/bin/env bash
# Gets what a group of tasks needs, and only what is missing.
#
# usage: dev/setup.sh run|test|bench|fuzz|image|vm
#
#   run    to build and to run containers: C library and libseccomp to link, busybox for root file systems
#   test   also the runtimes and monitors that the suite drives, and cargo-nextest
#   bench  as test, the peers that are measured, and valgrind, which counts instructions
#   fuzz   as test, and a C++ compiler for libFuzzer
#   image  QEMU, and the tools that make the guest's image; no Rust
#   vm     as test and image
#
# Debian or a derivative, as root (or with sudo). A Rust toolchain must be there for all but image: https://rustup.rs
set -euo pipefail

group=${1:-run}
log() { printf 'setup: %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

as_root=()
[[ $EUID == 0 ]] || as_root=(sudo)

# Each line: what shows that it is there (a program, or a file by its path), and the Debian package.
run_needs() {
    cat <<-'END'
		cc gcc
		/usr/lib/x86_64-linux-gnu/libc.a libc6-dev
		/usr/lib/x86_64-linux-gnu/libseccomp.a libseccomp-dev
		/bin/busybox busybox-static
		setsid util-linux
	END
}

test_needs() {
    run_needs
    cat <<-'END'
		runc runc
		crun crun
		conmon conmon
		ip iproute2
		ps procps
		strace strace
		podman podman
		containerd containerd
		python3 python3
	END
}

bench_needs() {
    test_needs
    cat <<-'END'
		valgrind valgrind
	END
}

fuzz_needs() {
    test_needs
}

image_needs() {
    cat <<-'END'
		qemu-system-x86_64 qemu-system-x86
		qemu-img qemu-utils
		nbdkit nbdkit
		mmdebstrap mmdebstrap
		mkfs.ext4 e2fsprogs
		socat socat
		cpio cpio
		xz xz-utils
		setpriv util-linux
		/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
	END
}

vm_needs() {
    test_needs
    image_needs
}

# What makes a test stronger but is not everywhere: no failure if apt lacks it.
optional() {
    [[ $group == run || $group == image ]] || cat <<-'END'
		criu criu
	END
    # Without it, make fuzz goes on with generated input.
    [[ $group != fuzz ]] || echo g++ g++
}

is_there() {
    case $1 in
        /*) [[ -e $1 ]] ;;
        *) PATH=$PATH:/usr/sbin:/sbin type -P "$1" >/dev/null ;;
    esac
}

missing() {
    local sign package
    while read -r sign package; do
        is_there "$sign" || echo "$package"
    done
}

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null >&2
}

install_packages() {
    local wanted=() extra=() package
    mapfile -t wanted < <("${group}_needs" | missing)
    mapfile -t extra < <(optional | missing)
    ((${#wanted[@]} + ${#extra[@]} > 0)) || return 0
    is_there apt-get || {
        ((${#wanted[@]} == 0)) || die "no apt-get here; install by hand: ${wanted[*]}"
        log "NOT TESTED: what needs ${extra[*]}: no apt-get here"
        return 0
    }
    log "installing ${wanted[*]} ${extra[*]}"
    "${as_root[@]}" apt-get update -q >&2 || log "apt-get update failed; trying with the lists that are there"
    ((${#wanted[@]} == 0)) || apt "${wanted[@]}"
    # A qemu-utils of a newer release makes way for an older qemu-system-x86, and has to come back.
    mapfile -t wanted < <("${group}_needs" | missing)
    ((${#wanted[@]} == 0)) || apt "${wanted[@]}"
    mapfile -t wanted < <("${group}_needs" | missing)
    ((${#wanted[@]} == 0)) || die "still missing: ${wanted[*]}"
    for package in "${extra[@]}"; do
        apt "$package" || log "NOT TESTED: what needs $package, which apt does not have"
    done
}

# crun reads the hugetlb hierarchy of cgroup v1 wherever others of v1 are mounted; some hosts lack it.
mount_hugetlb() {
    local dir=/sys/fs/cgroup/hugetlb
    [[ -d /sys/fs/cgroup/memory && ! -e $dir/cgroup.procs ]] || return 0
    grep -q '^hugetlb[[:space:]]*0' /proc/cgroups || return 0
    if "${as_root[@]}" mkdir -p "$dir" && "${as_root[@]}" mount -t cgroup -o hugetlb hugetlb "$dir"; then
        log "mounted $dir"
    else
        log "could not mount $dir: crun may fail"
    fi
}

install_nextest() {
    PATH=$PATH:$HOME/.cargo/bin type -P cargo-nextest >/dev/null || {
        log "installing cargo-nextest, which takes some minutes"
        cargo install --locked --quiet cargo-nextest
    }
}

case $group in
    run | test | bench | fuzz | image | vm) ;;
    *) die "usage: dev/setup.sh run|test|bench|fuzz|image|vm" ;;
esac
[[ $group == image ]] || PATH=$PATH:$HOME/.cargo/bin type -P cargo >/dev/null || die "no cargo: install a Rust toolchain, see https://rustup.rs"
install_packages
[[ $group == run || $group == image ]] || {
    mount_hugetlb
    install_nextest
}
