# shellcheck shell=bash
# wharf-oci on cgroup v2, made by us (cgroupfs) or by systemd (a scope). Sourced by suite: oci:MANAGER
manager=${group#oci:}
rootfs
state=$work/oci
cgroup=/sys/fs/cgroup/wharfvm/box
path=/wharfvm/box
# No other group's processes have this.
forever=10000$(cksum <<<"$group" | cut -c1-5)
oci=(wharf-oci --root $state)
if [[ $manager == systemd ]]; then
    oci+=(--systemd-cgroup)
    path=system.slice:wharfvm:box
    cgroup=/sys/fs/cgroup/system.slice/wharfvm-box.scope
fi
oci=${oci[*]}
limits='.linux.cgroupsPath = "'$path'" | .linux.resources = {
    memory: {limit: 67108864}, pids: {limit: 50}, cpu: {shares: 512, quota: 50000, period: 100000},
    devices: [{allow: false, access: "rwm"}, {allow: true, type: "c", major: 1, minor: 5, access: "r"}]}'

life() {
    bundle box "$limits" sleep $forever
    check "$manager: create" $oci create --bundle $work/box --pid-file $work/pid box
    holds "$manager: it is in its cgroup" "grep -qx $(cat $work/pid) $cgroup/cgroup.procs"
    holds "$manager: memory.max" "[ \$(cat $cgroup/memory.max) = 67108864 ]"
    holds "$manager: pids.max" "[ \$(cat $cgroup/pids.max) = 50 ]"
    holds "$manager: cpu.max" "[ \"\$(cat $cgroup/cpu.max)\" = '50000 100000' ]"
    holds "$manager: cpu.weight" "[ \$(cat $cgroup/cpu.weight) -gt 10 -a \$(cat $cgroup/cpu.weight) -lt 100 ]"
    holds "$manager: state is created" "$oci state box | jq -e '.status == \"created\"'"
    check "$manager: start" $oci start box
    holds "$manager: state is running" "$oci state box | jq -e '.status == \"running\"'"
    check "$manager: exec" $oci exec box sh -c 'echo x >/dev/null && head -c 1 /dev/zero >/dev/null'
    if [[ $manager == systemd ]]; then
        holds "systemd: the scope has the limits" "systemctl show wharfvm-box.scope | grep -qx MemoryMax=67108864 && systemctl show wharfvm-box.scope | grep -qx TasksMax=50"
        check "systemd: daemon-reload" systemctl daemon-reload
        check "systemd: daemon-reexec" systemctl daemon-reexec
        holds "systemd: memory.max is as it was" "[ \$(cat $cgroup/memory.max) = 67108864 ]"
    fi
    check "$manager: what is allowed, is" $oci exec box sh -c 'echo x >/dev/null && head -c 1 /dev/zero >/dev/null && head -c 1 /dev/urandom >/dev/null'
    [[ -e $work/rootfs/tmp/disk ]] || mknod -m 666 $work/rootfs/tmp/disk b $(stat -c "0x%t 0x%T" /dev/vda)
    check "the disk can be read outside" head -c 1 $work/rootfs/tmp/disk
    refuses "$manager: what is not, is not" "$oci exec box head -c 1 /tmp/disk"
    check "$manager: update" $oci update --memory 33554432 --pids-limit 40 --cpu-quota 20000 --cpu-period 100000 box
    holds "$manager: updated" "[ \$(cat $cgroup/memory.max) = 33554432 ] && [ \$(cat $cgroup/pids.max) = 40 ] && [ \"\$(cat $cgroup/cpu.max)\" = '20000 100000' ]"
    if [[ $manager == systemd ]]; then
        systemctl daemon-reload
        holds "systemd: updated for good" "[ \$(cat $cgroup/memory.max) = 33554432 ] && [ \$(cat $cgroup/pids.max) = 40 ]"
    fi
    check "$manager: devices after the update" $oci exec box sh -c 'echo x >/dev/null'
    check "$manager: pause" $oci pause box
    holds "$manager: it is frozen" "grep -qx 'frozen 1' $cgroup/cgroup.events && $oci state box | jq -e '.status == \"paused\"'"
    check "$manager: resume" $oci resume box
    holds "$manager: it is thawed" "grep -qx 'frozen 0' $cgroup/cgroup.events && $oci state box | jq -e '.status == \"running\"'"
    check "$manager: exec in the background" $oci exec --detach box sleep $forever
    holds "$manager: ps" "[ \$($oci ps --format json box | jq length) = 2 ]"
    holds "$manager: events --stats has memory, processor and tasks" "$oci events --stats box | jq -e '.data.memory.usage.usage > 0 and .data.cpu.usage.total > 0 and .data.pids.current > 0'"
    refuses "$manager: delete of what runs" "$oci delete box"
    check "$manager: kill" $oci kill box KILL
    soon "$manager: it is stopped" "$oci state box | jq -e '.status == \"stopped\"'"
    check "$manager: delete" $oci delete box
    soon "$manager: nothing is left" "[ ! -e $cgroup -a ! -e $state/box ]"
    refuses "$manager: no process is left" "ps -eo args | grep -x 'sleep $forever'"
    [[ $manager != systemd ]] || soon "systemd: no unit is left" "[ -z \"\$(systemctl list-units --all --plain --no-legend 'wharfvm-*')\" ]"

    # Frozen, and deleted by force.
    check "$manager: run in the background" $oci run --detach --bundle $work/box box2
    check "$manager: pause" $oci pause box2
    check "$manager: delete --force of what is frozen" $oci delete --force box2
    soon "$manager: nothing is left" "[ ! -e $cgroup -a ! -e $state/box2 ]"

    # Init's death takes all with it, and its code is told.
    bundle box "$limits" sh -c 'exit 7'
    holds "$manager: the exit code" "$oci run --bundle $work/box box3; [ \$? = 7 ]"
    soon "$manager: nothing is left" "[ ! -e $cgroup -a ! -e $state/box3 ]"
    refuses "$manager: a limit that the kernel refuses undoes all" \
        "jq '.linux.resources.cpu.quota = 1' $work/box/config.json >$work/new && mv $work/new $work/box/config.json; $oci create --bundle $work/box box4"
    soon "$manager: nothing is left" "[ ! -e $cgroup -a ! -e $state/box4 ]"
}

namespaces() {
    # A container with a cgroup namespace and a read-write cgroup2 mount has its own cgroup as its root.
    bundle cg "$limits"' | .linux.namespaces += [{type: "cgroup"}] | .mounts |= map(if .type == "cgroup" then .options = ["rw", "nosuid", "noexec"] else . end)' \
        sh -c 'cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; mkdir /sys/fs/cgroup/below'
    holds "$manager: a cgroup namespace" "[ \"\$($oci run --bundle $work/cg cg)\" = \$'0::/\n67108864' ]"
    bundle cg "$limits" sh -c 'mkdir /sys/fs/cgroup/below'
    refuses "$manager: cgroups are read-only" "$oci run --bundle $work/cg cg2"

    # A user namespace, and a mount whose owners are mapped like it.
    local map='[{containerID: 0, hostID: 100000, size: 65536}]'
    mkdir -p $work/shared
    echo mine >$work/shared/file
    chmod 755 $work $work/shared
    bundle user "$limits"' | .linux.namespaces += [{type: "user"}, {type: "cgroup"}] | .linux.uidMappings = '"$map"' | .linux.gidMappings = '"$map"'
        | .mounts += [{destination: "/mnt", type: "bind", source: "'$work/shared'", options: ["rbind", "idmap"], uidMappings: '"$map"', gidMappings: '"$map"'}]' \
        sh -c 'id -u; stat -c %u /mnt/file; touch /mnt/new; cat /proc/self/uid_map'
    holds "$manager: a user namespace with a mapped mount" "$oci run --bundle $work/user user >$work/out; cat $work/out; [ \"\$(head -n 2 $work/out)\" = \$'0\n0' ] && grep -q 100000 $work/out"
    holds "$manager: what it made there has the owner of the outside" "[ \$(stat -c %u $work/shared/new) = 0 ]"
    rm -f $work/shared/new

    # Whoever the program runs as owns what may be delegated, if it can change it at all.
    local who='.linux.namespaces += [{type: "user"}, {type: "cgroup"}] | .linux.uidMappings = '"$map"' | .linux.gidMappings = '"$map"' | .process.user = {uid: 7, gid: 7}'
    local write='.mounts |= map(if .type == "cgroup" then .options = ["rw", "nosuid", "noexec"] else . end)'
    bundle owned "$limits | $who | $write" sh -c 'mkdir /sys/fs/cgroup/below && echo 1 >/sys/fs/cgroup/below/cgroup.procs && echo made; echo 5 >/sys/fs/cgroup/pids.max || echo kept'
    holds "$manager: its own cgroup is the program's user's, not its limits" "[ \"\$($oci run --bundle $work/owned owned 2>/dev/null)\" = \$'made\nkept' ]"
    bundle owned "$limits | $who" sleep $forever
    check "$manager: run with read-only cgroups" $oci run --detach --bundle $work/owned owned2
    holds "$manager: it stays root's then" "[ \$(stat -c %u $cgroup) = 0 -a \$(stat -c %u $cgroup/cgroup.procs) = 0 ]"
    check "$manager: delete" $oci delete --force owned2

    # CRI-O's annotations, and one that may not be set.
    if [[ $manager == systemd ]]; then
        bundle crio "$limits"' | .annotations = {"org.systemd.property.DefaultDependencies": "true", "org.systemd.property.After": "['"'crio.service'"']",
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000", "org.systemd.property.CPUWeight": "uint64 9"}' sleep $forever
        check "systemd: run with CRI-O's annotations" $oci run --detach --bundle $work/crio crio
        holds "systemd: they are set" "systemctl show wharfvm-box.scope >$work/show; grep -qx DefaultDependencies=yes $work/show && grep -q '^After=.*crio.service' $work/show && grep -qx TimeoutStopUSec=7s $work/show"
        holds "systemd: a limit is not" "! grep -qx CPUWeight=9 $work/show"
        check "systemd: delete" $oci delete --force crio

        # What files of v2 say stays over a reload; a failed update is undone in systemd, too.
        bundle files "$limits"' | .linux.resources.unified = {"memory.high": "60000000", "memory.min": "1048576", "cpu.weight": "77", "memory.oom.group": "1"}
            | del(.linux.resources.cpu.shares)' sleep $forever
        check "systemd: run with files of v2" $oci run --detach --bundle $work/files files
        local files='cat memory.high memory.min memory.max cpu.weight memory.oom.group pids.max | tr "\n" " "'
        holds "systemd: they are set" "[ \"\$(cd $cgroup && $files)\" = '59998208 1048576 67108864 77 1 50 ' ]"
        systemctl daemon-reload
        check "systemd: an update of one limit" $oci update --pids-limit 40 files
        holds "systemd: they stay over a reload and an update" "[ \"\$(cd $cgroup && $files)\" = '59998208 1048576 67108864 77 1 40 ' ]"
        refuses "systemd: an update that fails" "$oci update --pids-limit 7 --memory 33554432 --cpu-quota 1 files"
        holds "systemd: it is undone" "[ \"\$(cd $cgroup && $files)\" = '59998208 1048576 67108864 77 1 40 ' ] && systemctl show wharfvm-box.scope | grep -qx TasksMax=40"
        systemctl daemon-reload
        holds "systemd: it stays undone" "[ \"\$(cd $cgroup && $files)\" = '59998208 1048576 67108864 77 1 40 ' ] && systemctl show wharfvm-box.scope | grep -qx MemoryMax=67108864"
        check "systemd: delete" $oci delete --force files
        bundle idle "$limits"' | .linux.resources.cpu = {idle: 1, shares: 512}' sleep $forever
        check "systemd: run an idle one" $oci run --detach --bundle $work/idle idle
        systemctl daemon-reload
        check "systemd: an update of another limit" $oci update --pids-limit 40 idle
        holds "systemd: it stays idle" "[ \$(cat $cgroup/cpu.idle) = 1 -a \$(cat $cgroup/pids.max) = 40 ]"
        check "systemd: delete" $oci delete --force idle
    fi

    # The same with crun, as the measure of these tests (runc 1.1 knows no such mounts).
    local crun="crun --root $work/crun${oci#wharf-oci --root $state}"
    holds "$manager: crun says the same" "$crun run --bundle $work/user user >$work/out2; diff $work/out $work/out2"
    rm -f $work/shared/new
}

# A root of overlay, as engines give it, and an overlay mounted by the container's own user namespace.
overlays() {
    local map='[{containerID: 0, hostID: 100000, size: 65536}]' over=$work/over user
    mkdir -p $over/{upper,work,root}
    mount -t overlay -o lowerdir=$work/rootfs,upperdir=$over/upper,workdir=$over/work overlay $over/root
    bundle over "$limits"' | .root.path = "'$over/root'"' sh -c 'echo mine >/tmp/over && rm /bin/seq && ls /tmp'
    holds "$manager: a root of overlay" "$oci run --bundle $work/over over | grep -qx over"
    holds "$manager: what it changed is above" "[ -e $over/upper/tmp/over -a -c $over/upper/bin/seq -a ! -e $work/rootfs/tmp/over -a -L $work/rootfs/bin/seq ]"
    umount $over/root
    for user in "wharf-oci --root $state" "crun --root $work/crun"; do
        rm -rf $work/layers && mkdir -p $work/layers/{lower,upper,work}
        echo below >$work/layers/lower/file
        chown -R 100000:100000 $work/layers
        bundle layers "$limits"' | .linux.namespaces += [{type: "user"}] | .linux.uidMappings = '"$map"' | .linux.gidMappings = '"$map"'
            | .mounts += [{destination: "/mnt", type: "overlay", source: "overlay",
                options: ["lowerdir='$work/layers/lower'", "upperdir='$work/layers/upper'", "workdir='$work/layers/work'", "userxattr"]}]' \
            sh -c 'cat /mnt/file; echo above >/mnt/file; stat -c %u /mnt/file'
        holds "$manager: ${user%% *}: an overlay in a user namespace" "$user${oci#wharf-oci --root $state} run --bundle $work/layers layers >$work/out; cat $work/out; [ \"\$(cat $work/out)\" = \$'below\n0' ]"
        holds "$manager: ${user%% *}: its upper layer has the mapped owner" "[ \$(stat -c %u $work/layers/upper/file) = 100000 ] && grep -qx above $work/layers/upper/file"
    done
}

life
namespaces
overlays
close
