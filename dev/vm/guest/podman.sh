# shellcheck shell=bash
# podman as Debian has it, on wharf-monitor, with systemd and journald: podman:RUNTIME:MANAGER. Sourced by suite.
IFS=: read -r _ runtime manager <<<"$group"
rootfs
program=$(type -P "$runtime")
# Of two such groups in a guest, the one with systemd has podman's usual places: timers of health checks know no others.
podman=podman config=/etc/containers/containers.conf
mkdir -p /etc/containers
if [[ $manager != systemd ]]; then
    export CONTAINERS_CONF=$work/containers.conf
    podman="podman --root $work/root --runroot $work/run --tmpdir $work/tmp" config=$CONTAINERS_CONF
fi
cat >"$config" <<END
[engine]
conmon_path = ["$work/bin/wharf-monitor"]
cgroup_manager = "$manager"
runtime = "$runtime"
[engine.runtimes]
$runtime = ["$program"]
[containers]
netns = "none"
END
tar -C $work/rootfs -c . >$work/rootfs.tar
patience=240
journal=j-$runtime-$manager
# Two podmans that make their locks at once disturb each other.
check "import" flock /run/podman-import $podman import -q $work/rootfs.tar box:1
holds "run, journald" "[ \"\$($podman run --name $journal --log-driver journald box:1 sh -c 'echo to the journal; exit 3')\" = 'to the journal' ]; $podman inspect $journal | jq -e '.[0].State.ExitCode == 3'"
holds "the storage is overlay" "$podman info | grep -q 'graphDriverName: overlay'"
soon "logs from the journal" "$podman logs $journal | grep -qx 'to the journal'"
# conmon's entries end with the newline too.
soon "the journal has the id" "journalctl -o json CONTAINER_NAME=$journal | jq -e 'select(.MESSAGE == \"to the journal\\n\") | .CONTAINER_ID_FULL | length == 64'"
check "rm" $podman rm $journal
check "run -d" $podman run -d --name d --memory 64m --pids-limit 50 --log-driver k8s-file box:1 sh -c 'echo begun; sleep 100000'
soon "logs" "$podman logs d | grep -qx begun"
id=$($podman inspect d | jq -r '.[0].Id')
if [[ $manager == systemd ]]; then
    holds "a scope" "systemctl list-units --type=scope --plain --no-legend 'libpod-*' | grep -q $id"
    holds "daemon-reload" "systemctl daemon-reload && $podman exec d sh -c 'echo x >/dev/null && head -c 1 /dev/zero >/dev/null'"
fi
holds "exec's exit code" "$podman exec d sh -c 'exit 9'; [ \$? = 9 ]"
check "update" $podman update --memory 48m d
check "pause" $podman pause d
check "unpause" $podman unpause d
check "stats" $podman stats --no-stream d
check "top" $podman top d
check "stop" $podman stop --time 1 d
holds "it was killed" "$podman inspect d | jq -e '.[0].State.ExitCode == 137'"
check "start again" $podman start d
check "rm -f" $podman rm -f --time 0 d
holds "out of memory" "$podman run --name o --memory 16m --memory-swap 16m box:1 sh -c 'exec tail /dev/zero'; $podman inspect o | jq -e '.[0].State.OOMKilled and .[0].State.ExitCode == 137'"
check "rm" $podman rm o
if [[ $manager == systemd ]]; then
    check "a health check by systemd's timer" $podman run -d --name h --health-cmd 'cat /tmp/well' --health-interval 5s --health-retries 1 --health-timeout 60s --health-start-period 0s \
        box:1 sh -c 'sleep 100000'
    soon "it is not well" "$podman inspect h | jq -e '.[0].State.Health.Status == \"unhealthy\"'"
    check "exec" $podman exec h touch /tmp/well
    soon "it is well" "$podman inspect h | jq -e '.[0].State.Health.Status == \"healthy\"'"
    check "rm -f" $podman rm -f --time 0 h
fi
soon "nothing is left" "[ -z \"\$($podman ps -aq)\" ] && ! ps -eo args | grep -q '^$work/bin/wharf-' && ! systemctl list-units --all --plain --no-legend 'libpod-*' | grep -q $id"
close
