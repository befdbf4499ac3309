# shellcheck shell=bash
# systemd must not take away what it does not know: devices and limits stay over a daemon-reload, with wharf and each runtime.
# Sourced by suite.
rootfs
wharf="wharf --root $work/state"
scopes() { systemctl list-units --all --type=scope --plain --no-legend "*$1*" | grep -q .; }
for handler in wharf-oci runc crun; do
    for monitor in wharf-monitor conmon; do
        id=reload-$handler-$monitor at="$handler $monitor"
        check "$at: create under systemd" $wharf create --handler $handler --monitor $(type -P $monitor) --cgroup-manager systemd \
            --id $id --memory 64m --rootfs $work/rootfs sleep 100000
        check "$at: start" $wharf start $id
        check "$at: daemon-reload" systemctl daemon-reload
        check "$at: devices are still allowed" $wharf exec $id sh -c 'echo x >/dev/null && head -c 1 /dev/zero >/dev/null'
        check "$at: a scope is there" scopes $id
        holds "$at: memory.max is kept" "[ \$(cat /sys/fs/cgroup/system.slice/*$id.scope/memory.max | grep -c 67108864) = 1 ]"
        check "$at: update" $wharf update --memory 48m $id
        holds "$at: it is kept as well" "systemctl daemon-reload; [ \$(cat /sys/fs/cgroup/system.slice/*$id.scope/memory.max | grep -c 50331648) = 1 ]"
        check "$at: pause" $wharf pause $id
        check "$at: resume" $wharf resume $id
        check "$at: stop" $wharf stop --time 1 $id
        check "$at: rm" $wharf rm $id
        soon "$at: the scopes are gone" "systemctl list-units --all --plain --no-legend '*$id*'; [ -z \"\$(systemctl list-units --all --type=scope --plain --no-legend '*$id*')\" ]"
        holds "$at: no cgroup is left" "[ -z \"\$(find /sys/fs/cgroup -name '*$id*')\" ]"
    done
done
close
