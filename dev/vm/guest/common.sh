# shellcheck shell=bash
# What the groups share. Sourced by suite.
work=/var/tmp/${group//:/-}
# These are boots of one disk.
[[ $group != reboot-* && $group != cut-* ]] || work=/var/tmp/reboot
mkdir -p $work/bin
export HOME=/root PATH=$work/bin:$PATH
# A test of this many seconds hangs.
patience=60

passed=0 failed=0
# check WHAT COMMAND…: its exit status is the verdict; what it says is shown when it fails.
check() {
    local what=$1
    shift
    # A function can't be run by timeout; it bounds itself.
    local bound=(timeout $patience)
    [[ $(type -t "$1") != function ]] || bound=()
    if "${bound[@]}" "$@" >$work/said 2>&1 </dev/null; then
        echo "PASS $what"
        passed=$((passed + 1))
    else
        echo "FAIL $what (status $?)"
        tail -n 12 $work/said | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}
# holds WHAT EXPRESSION: the same for a line of shell.
holds() { check "$1" bash -c "$2"; }
# soon WHAT EXPRESSION: it comes true before the patience ends.
soon() { check "$1" bash -c "until $2; do sleep 0.3; done"; }
refuses() { check "$1" bash -c "! ( $2 )"; }
close() {
    echo "$passed passed, $failed failed"
    exit $((failed > 0))
}

# Our programs, where a container's mounts can't reach them, and a root file system of busybox.
rootfs() {
    local applet
    mkdir -p $work/rootfs/{bin,proc,dev,sys,tmp,etc,mnt}
    chmod 1777 $work/rootfs/tmp
    cp /bin/busybox $work/rootfs/bin/
    for applet in sh cat sleep echo true head dd id ls touch stat mkdir tail seq grep; do
        ln -sf busybox $work/rootfs/bin/$applet
    done
    cp "$WHARF_PROGRAMS"/wharf{,-oci,-monitor} $work/bin/
}

# bundle NAME FILTER [ARGUMENT…]: a bundle at $work/NAME; jq's FILTER changes its config.json.
bundle() {
    local dir=$work/$1 filter=$2
    shift 2
    mkdir -p "$dir"
    rm -f "$dir/config.json"
    runc spec --bundle "$dir"
    jq --arg root $work/rootfs '.root = {path: $root} | .process.terminal = false | .process.args = $ARGS.positional | '"$filter"' | .linux.namespaces |= unique_by(.type)' \
        "$dir/config.json" --args -- "$@" >"$dir/new" && mv "$dir/new" "$dir/config.json"
}
