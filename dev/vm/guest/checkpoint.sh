# shellcheck shell=bash
# criu: a container that counts goes on counting where it was, with podman on wharf-monitor and runc or crun. Sourced by suite.
rootfs
patience=400
if ! criu check >$work/criu 2>&1; then
    echo "NOT TESTED: checkpoint and restore: criu says: $(tail -n 1 $work/criu)"
    close
fi
tar -C $work/rootfs -c . >$work/rootfs.tar
for runtime in runc crun; do
    export CONTAINERS_CONF=$work/containers-$runtime.conf
    cat >$CONTAINERS_CONF <<END
[engine]
conmon_path = ["$work/bin/wharf-monitor"]
runtime = "$runtime"
[containers]
netns = "none"
END
    podman="podman --root $work/root-$runtime --runroot $work/run-$runtime --tmpdir $work/tmp-$runtime"
    check "$runtime: import" $podman import -q $work/rootfs.tar box:1
    check "$runtime: one that counts" $podman run -d --name n --log-driver k8s-file --security-opt seccomp=unconfined box:1 \
        sh -c 'n=0; while :; do n=$((n + 1)); echo $n >/tmp/count; sleep 0.2; done'
    soon "$runtime: it counts" "[ \$($podman exec n cat /tmp/count) -gt 5 ]"
    check "$runtime: checkpoint" $podman container checkpoint --keep n
    if ((failed > 0)); then find $work/root-$runtime $work/run-$runtime -name dump.log -exec tail -n 15 {} +; fi
    holds "$runtime: it has no process" "$podman inspect n | jq -e '.[0].State | .Running == false and .Checkpointed'"
    check "$runtime: restore" $podman container restore --keep n
    if ((failed > 0)); then find $work/root-$runtime $work/run-$runtime -name restore.log -exec tail -n 15 {} +; fi
    holds "$runtime: it runs" "$podman inspect n | jq -e '.[0].State.Running'"
    holds "$runtime: it goes on counting" "a=\$($podman exec n cat /tmp/count); [ \$a -gt 5 ] && sleep 2 && b=\$($podman exec n cat /tmp/count) && [ \$b -gt \$a ]"
    check "$runtime: rm -f" $podman rm -f --time 0 n
done

# wharf asks the runtime.
wharf="wharf --root $work/state"
check "wharf: one to keep" $wharf run -d --handler runc --id keep --no-seccomp --rootfs $work/rootfs sleep 100000
check "wharf: checkpoint with runc" $wharf checkpoint keep $work/image
holds "wharf: it is written" "ls $work/image | grep -q pages-"
check "wharf: rm" $wharf rm --force keep
close
