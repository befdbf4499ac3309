# shellcheck shell=bash
# Want of memory of an init, of a child, and of the pod around containers, told apart; memory.events, PSI, cgroup.kill; with
# directories of our own and with scopes. Sourced by suite.
rootfs
wharf="wharf --root $work/state"
v2=/sys/fs/cgroup
# said ID FILTER: jq on what `wharf inspect` has.
said() { $wharf inspect "$1" | jq -e "$2" >/dev/null; }
over() { said "$1" '[.. | objects | .state? // empty | strings] | any(. == "exited")'; }
oom_is() { said "$1" "[.. | objects | .oom? // empty] | any(. == \"$2\")"; }
cgroup_of() { echo "$v2$(sed -n 's/^0:://p' "/proc/$($wharf inspect "$1" | jq '[.. | objects | .pid? // empty | numbers] | first')/cgroup")"; }
export -f said over oom_is cgroup_of
export wharf v2
eater='tail /dev/zero'

for manager in cgroupfs systemd; do
    create="$wharf run -d --cgroup-manager $manager --rootfs $work/rootfs"
    limits="--memory 24m --memory-swap 24m"
    check "$manager: a greedy init" $create --id i-$manager $limits $eater
    soon "$manager: it is over" "over i-$manager"
    holds "$manager: init, 137, OOMKilled" "oom_is i-$manager init && said i-$manager '[.. | .code? // empty] | any(. == 137)' && $wharf inspect i-$manager | grep -q OOMKilled"
    check "$manager: a greedy child" $create --id c-$manager $limits sh -c "$eater; exit 3"
    soon "$manager: it is over" "over c-$manager"
    holds "$manager: a child, and the init's own code" "oom_is c-$manager child && said c-$manager '[.. | .code? // empty] | any(. == 3)' && ! $wharf inspect c-$manager | grep -q OOMKilled"
    check "$manager: one that is killed by hand" $create --id k-$manager $limits sleep 100000
    check "$manager: kill" $wharf kill k-$manager
    soon "$manager: it is over" "over k-$manager"
    holds "$manager: 137, and nobody's memory" "said k-$manager '[.. | .code? // empty] | any(. == 137)' && ! oom_is k-$manager init && ! oom_is k-$manager child"

    # The pod has the limit, its containers have none.
    if [[ $manager == systemd ]]; then
        pod=podvm.slice dir=$v2/podvm.slice
        check "systemd: the pod's slice" bash -c "systemctl start $pod && systemctl set-property --runtime $pod MemoryMax=48M MemorySwapMax=0"
    else
        pod=/podvm dir=$v2/podvm
        check "cgroupfs: the pod's cgroup" bash -c "mkdir $dir && echo 48M >$dir/memory.max && echo 0 >$dir/memory.swap.max"
    fi
    # It tells when its child is dead, and stays for a look at its cgroup.
    check "$manager: a greedy one in a pod" $create --id p-$manager --cgroup-parent $pod sh -c "$eater; touch /tmp/eaten-$manager; sleep 100000"
    check "$manager: its modest neighbour" $create --id n-$manager --cgroup-parent $pod sleep 100000
    soon "$manager: the pod's memory is at its end" "[ -e $work/rootfs/tmp/eaten-$manager ]"
    holds "$manager: they are in the pod" "[[ \$(cgroup_of p-$manager) == $dir/* && \$(cgroup_of n-$manager) == $dir/* ]]"
    holds "$manager: memory.events: killed here, for want of the pod" \
        "c=\$(cgroup_of p-$manager); grep -qx 'oom_kill 1' \$c/memory.events.local && grep -qx 'oom 0' \$c/memory.events.local && ! grep -qx 'oom 0' $dir/memory.events.local"
    holds "$manager: memory.events: the neighbour is not touched" "grep -qx 'oom_kill 0' \$(cgroup_of n-$manager)/memory.events"
    check "$manager: stop" $wharf stop --time 1s p-$manager n-$manager
    holds "$manager: the greedy one's record says child" "oom_is p-$manager child"
    holds "$manager: the neighbour's record says nobody" "! oom_is n-$manager child && ! oom_is n-$manager init"
    # The init itself, of the pod's limit.
    check "$manager: a greedy init in a pod" $create --id q-$manager --cgroup-parent $pod $eater
    soon "$manager: it is over" "over q-$manager"
    holds "$manager: init" "oom_is q-$manager init && $wharf inspect q-$manager | grep -q OOMKilled"

    # Pressure, and the end of many at once.
    check "$manager: a crowd" $create --id m-$manager --pids-limit 200 sh -c 'for n in 1 2 3 4 5 6 7 8 9 10; do (sh -c "sleep 100000 & sleep 100000 & wait" &) ; done; sleep 100000'
    soon "$manager: thirty and more" "[ \$(wc -l <\$(cgroup_of m-$manager)/cgroup.procs) -ge 31 ]"
    for kind in memory cpu io; do
        holds "$manager: PSI of $kind" "grep -q '^some avg10=' \$(cgroup_of m-$manager)/$kind.pressure"
    done
    dead=$(cgroup_of m-$manager)
    check "$manager: rm --force" $wharf rm --force m-$manager
    soon "$manager: nobody is left, nor the cgroup" "[ ! -e $dead ]"
    # Without a pid namespace the init's death is not that of all.
    oci="wharf-oci --root $work/oci-$manager" path=/wharfvm/killed
    [[ $manager != systemd ]] || { oci+=" --systemd-cgroup" path=system.slice:wharfvm:killed; }
    bundle killed '.linux.cgroupsPath = "'$path'" | .linux.namespaces |= map(select(.type != "pid"))' sh -c 'sleep 100002 & sleep 100002 & sleep 100002 & wait'
    check "$manager: many without a pid namespace" $oci run --detach --bundle $work/killed killed-$manager
    soon "$manager: four" "[ \$($oci ps --format json killed-$manager | jq length) = 4 ]"
    check "$manager: kill --all" strace -f -qq -e trace=openat,write -o $work/trace-$manager $oci kill --all killed-$manager KILL
    holds "$manager: by cgroup.kill" "grep -q 'cgroup.kill' $work/trace-$manager"
    soon "$manager: all are dead" "! ps -eo args | grep -qx 'sleep 100002'"
    check "$manager: delete" $oci delete killed-$manager
    check "$manager: rm" $wharf rm i-$manager c-$manager k-$manager p-$manager n-$manager q-$manager
    if [[ $manager == systemd ]]; then systemctl stop $pod; else holds "cgroupfs: the pod is empty" "rmdir $dir"; fi
done
holds "nothing is left" "$wharf ps --all --json | jq -e 'length == 0'"
close
