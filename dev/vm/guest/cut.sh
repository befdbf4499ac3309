# shellcheck shell=bash
# What outlives a reboot and a power cut; see ../reboot.sh for the order. Sourced by suite.
state=/var/lib/wharfinger-cut
wharf="wharf --root $state"
records=/var/lib/wharfinger-records
patience=200
# code ID: the exit code that the record has.
has_code() { $wharf inspect "$1" | jq -e --argjson code "$2" '[.. | .code? // empty] | any(. == $code)' >/dev/null; }
shows() { $wharf ps --all --json | jq -e --arg id "$1" '[.. | .id? // empty] | any(. == $id)' >/dev/null; }

churn() {
    local n id code
    for ((n = 0; n < 1000; n++)); do
        id=w$1-$n code=$((n % 7 + 1))
        $wharf create --id $id --rootfs $work/rootfs sh -c "exit $code" >/dev/null && echo "ACK $id created"
        $wharf start $id >/dev/null && echo "ACK $id started"
        ! $wharf wait $id >/dev/null || true
        has_code $id $code && echo "ACK $id exited $code"
        ((n % 3)) || { $wharf rm $id >/dev/null && echo "ACK $id gone"; }
    done
}

case $group in
    reboot-before)
        rootfs
        systemctl start dbus
        $wharf run -d --id over --rootfs $work/rootfs sh -c 'exit 7' >/dev/null
        $wharf create --id made --rootfs $work/rootfs sleep 100000 >/dev/null
        for manager in cgroupfs systemd; do
            $wharf run -d --id runs-$manager --cgroup-manager $manager --rootfs $work/rootfs sleep 100000 >/dev/null
        done
        until has_code over 7; do sleep 0.2; done
        $wharf ps --all
        sync
        systemctl poweroff --force
        sleep 300
        ;;
    reboot-after)
        cat /proc/sys/kernel/random/boot_id
        check "reboot: all records can be read, at once" $wharf ps --all
        cat $work/said
        holds "reboot: nobody is called alive" "$wharf ps --json | jq -e 'length == 0'"
        check "reboot: a known exit is kept" has_code over 7
        for id in made runs-cgroupfs runs-systemd; do
            holds "reboot: $id is over" "$wharf inspect $id | jq -e '[.. | .state? // empty | strings] | any(test(\"exited|unknown|stopped\"; \"i\"))'"
        done
        check "reboot: recover" $wharf recover
        for id in over made runs-cgroupfs runs-systemd; do
            check "reboot: $id can be removed" $wharf rm $id
        done
        holds "reboot: nothing is left" "$wharf ps --all --json | jq -e 'length == 0'"
        sync
        close
        ;;
    cut-before)
        rootfs
        mkdir -p $records
        sync
        "$staged/target/debug/examples/records" $records 4 &
        for worker in 1 2 3; do churn $worker & done
        wait
        ;;
    cut-after)
        check "cut: all records can be read" $wharf ps --all
        tail -n 5 $work/said
        holds "cut: nobody is called alive" "$wharf ps --json | jq -e 'length == 0'"
        lost=0 kept=0
        $wharf ps --all --json | jq -r '.. | .id? // empty' | sort >$work/ids
        # The last word about each: what it was at least.
        awk '{ last[$2] = $3 " " $4 } END { for (id in last) print id, last[id] }' <(grep -v '^ACK r' /acks/acks) | sort >$work/last
        while read -r id what code; do
            case $what in
                gone) if grep -qx "$id" $work/ids; then echo "FAIL cut: $id was removed, and is there"; lost=$((lost + 1)); else kept=$((kept + 1)); fi ;;
                *)
                    # The next change, if it was a removal, may have come through unacknowledged.
                    n=${id#*-}
                    if grep -qx "$id" $work/ids; then
                        if [[ $what == exited ]] && ! has_code "$id" "$code"; then
                            echo "FAIL cut: $id exited with $code, which is forgotten"
                            lost=$((lost + 1))
                        else
                            kept=$((kept + 1))
                        fi
                    elif [[ $what == exited ]] && ((n % 3 == 0)); then
                        kept=$((kept + 1))
                    else
                        echo "FAIL cut: $id was $what, and is not there"
                        lost=$((lost + 1))
                    fi
                    ;;
            esac
        done <$work/last
        echo "cut: $kept containers as acknowledged, $lost not"
        holds "cut: nothing acknowledged is lost" "[ $lost = 0 -a $kept -gt 0 ]"
        # Each record is whole, and as new as was said, or newer.
        for file in r0 r1 r2 r3; do
            told=$(grep "^ACK $file " /acks/acks | tail -n 1 | cut -d' ' -f3)
            holds "cut: record $file is whole, and number $told or later" "jq -e '.number == .again and .number >= ${told:-1}' $records/$file"
        done
        holds "cut: at most one unfinished record for each writer" "[ \$(ls -A $records | wc -l) -le 8 ]"
        check "cut: recover" $wharf recover
        holds "cut: all can be removed" "for id in \$(cat $work/ids); do $wharf rm \$id 2>&1 || exit 1; done"
        holds "cut: nothing is left" "$wharf ps --all --json | jq -e 'length == 0'"
        holds "cut: no half-written file is left" "[ -z \"\$(ls -A $state | grep -v '^\\.\\(names\\|lock\\|events\\|events.lock\\)\$')\" ]"
        close
        ;;
esac
