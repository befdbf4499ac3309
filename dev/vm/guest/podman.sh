# shellcheck shell=bash
# podman as Debian has it, on wharf-monitor and wharf-oci, with systemd and journald. Sourced by suite.
rootfs
mkdir -p /etc/containers
cat >/etc/containers/containers.conf <<END
[engine]
conmon_path = ["$work/bin/wharf-monitor"]
[engine.runtimes]
wharf-oci = ["$work/bin/wharf-oci"]
[containers]
netns = "none"
END
tar -C $work/rootfs -c . >$work/rootfs.tar
patience=240
check "podman: import" podman import $work/rootfs.tar box:1
for runtime in wharf-oci crun; do
    for manager in systemd cgroupfs; do
        podman="podman --cgroup-manager $manager --runtime $runtime"
        at="podman $runtime $manager"
        holds "$at: run, journald" "[ \"\$($podman run --name j --log-driver journald box:1 sh -c 'echo to the journal; exit 3')\" = 'to the journal' ]; $podman inspect j | jq -e '.[0].State.ExitCode == 3'"
        soon "$at: logs from the journal" "$podman logs j | grep -qx 'to the journal'"
        soon "$at: the journal has the id" "journalctl -o json CONTAINER_NAME=j | jq -e 'select(.MESSAGE == \"to the journal\") | .CONTAINER_ID_FULL | length == 64'"
        check "$at: rm" $podman rm j
        check "$at: run -d" $podman run -d --name d --memory 64m --pids-limit 50 --log-driver k8s-file box:1 sh -c 'echo begun; sleep 100000'
        soon "$at: logs" "$podman logs d | grep -qx begun"
        if [[ $manager == systemd ]]; then
            holds "$at: a scope" "systemctl list-units --type=scope --plain --no-legend 'libpod-*' | grep -q \$($podman inspect d | jq -r '.[0].Id')"
            holds "$at: daemon-reload" "systemctl daemon-reload && $podman exec d sh -c 'echo x >/dev/null && head -c 1 /dev/zero >/dev/null'"
        fi
        holds "$at: exec's exit code" "$podman exec d sh -c 'exit 9'; [ \$? = 9 ]"
        check "$at: update" $podman update --memory 48m d
        check "$at: pause" $podman pause d
        check "$at: unpause" $podman unpause d
        check "$at: stats" $podman stats --no-stream d
        check "$at: top" $podman top d
        check "$at: stop" $podman stop --time 1 d
        holds "$at: it was killed" "$podman inspect d | jq -e '.[0].State.ExitCode == 137'"
        check "$at: start again" $podman start d
        check "$at: rm -f" $podman rm -f --time 0 d
        holds "$at: out of memory" "$podman run --name o --memory 16m --memory-swap 16m box:1 sh -c 'tail -c 100000000 /dev/zero & wait \$!; exec tail /dev/zero'; $podman inspect o | jq -e '.[0].State.OOMKilled and .[0].State.ExitCode == 137'"
        check "$at: rm" $podman rm o
        soon "$at: nothing is left" "[ -z \"\$($podman ps -aq)\" -a -z \"\$(systemctl list-units --all --plain --no-legend 'libpod-*' | grep -v 'libpod_parent')\" ] && ! pgrep wharf-"
    done
done
close
