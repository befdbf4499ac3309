# shellcheck shell=bash
# What outlives a reboot and a power cut; see ../reboot.sh for the order. Sourced by suite.
state=/var/lib/wharfinger-cut
wharf="wharf --root $state"
records=/var/lib/wharfinger-records
patience=200
# code ID: the exit code that the record has.
has_code() { $wharf inspect "$1" | jq -e --argjson code "$2" '[.. | .code? // empty] | any(. == $code)' >/dev/null; }

# In real seconds, from the first look at the old boot's containers until each was told over.
bound=$((2 * ${WHARF_TEST_SLOW:-1}))

# look WHAT: the first sight of the old boot's containers: $work/all has them, as "id state exit" in $work/ends.
look() {
    local begin=$EPOCHREALTIME took
    holds "$1: all records can be read" "$wharf ps --all --json >$work/all"
    took=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
    jq -r '.[] | [.id, .state, (.ended.exit | tostring)] | join(" ")' $work/all | sort >$work/ends
    cut -d' ' -f1 $work/ends >$work/ids
    echo "$1: $(wc -l <$work/ids) containers told after $took s, $(cut -d' ' -f1 /proc/uptime) s after the kernel began; bound: $bound s"
    holds "$1: each is over, at once" "[ -s $work/ends ] && ! grep -vE '^[^ ]+ (exited|unknown) ' $work/ends"
    holds "$1: within the bound" "awk 'BEGIN { exit !($took <= $bound) }'"
    holds "$1: nobody is called alive" "$wharf ps --json | jq -e 'length == 0'"
}

# ended ID PATTERN: how it ended, as the record says.
ended() { holds "${group%-*}: $1 has no other end than $2" "grep -E '^$1 (exited|unknown) ($2)\$' $work/ends || { grep '^$1 ' $work/ends; false; }"; }

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
        # How long a shut-down waits for a container that ignores SIGTERM; 90 s by default.
        mkdir -p /run/systemd/system.conf.d
        printf '[Manager]\nDefaultTimeoutStopSec=10s\n' >/run/systemd/system.conf.d/vm.conf
        systemctl daemon-reexec
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
        look reboot
        ended over '[{]"code":7[}]'
        # Killed by the shut-down with the monitor there to see it, or not seen.
        for id in made runs-cgroupfs runs-systemd; do ended $id 'lost|[{]"signal":(9|15)[}]'; done
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
        for manager in cgroupfs systemd; do
            $wharf run -d --id runs-$manager --cgroup-manager $manager --rootfs $work/rootfs sleep 100000 >/dev/null
            echo "ACK runs-$manager started"
        done
        $wharf create --id made --rootfs $work/rootfs sleep 100000 >/dev/null
        echo "ACK made created"
        "$staged/target/debug/examples/records" $records 4 &
        for worker in 1 2 3; do churn $worker & done
        wait
        ;;
    cut-after)
        look cut
        # They ran, or waited, when the power went: no code can be known.
        for id in made runs-cgroupfs runs-systemd; do ended $id lost; done
        # The last word about each: what it was at least.
        awk '{ last[$2] = $3 " " $4 } END { for (id in last) print id, last[id] }' <(grep -v '^ACK r[0-9]' /acks/acks) | sort >$work/last
        lost=0 kept=0 unknown=0
        while read -r id what code; do
            n=${id#*-}
            read -r _ _ exit < <(grep "^$id " $work/ends) || exit=
            wrong=
            case $what:$exit in
                gone:) ;;
                gone:*) wrong="was removed, and is there" ;;
                # The next change, a removal, may have come through unacknowledged.
                exited:) ((n % 3 == 0)) || wrong="had exited, and is not there" ;;
                exited:*) [[ $exit == "{\"code\":$code}" ]] || wrong="exited with $code, and has $exit" ;;
                *:) wrong="was $what, and is not there" ;;
                *:lost) unknown=$((unknown + 1)) ;;
                # It may have ended before the cut; then with the code that its program gives.
                *:*) [[ $id == w* && $exit == "{\"code\":$((n % 7 + 1))}" ]] || wrong="was $what, and has $exit" ;;
            esac
            if [[ -n $wrong ]]; then
                echo "FAIL cut: $id $wrong"
                lost=$((lost + 1))
            else
                kept=$((kept + 1))
            fi
        done <$work/last
        echo "cut: $kept containers as acknowledged, of these $unknown with an unknown end; $lost not"
        holds "cut: nothing acknowledged is lost, and nothing made up" "[ $lost = 0 -a $kept -gt 0 ]"
        # Of what was never acknowledged, too.
        holds "cut: no end but its own or an unknown one" \
            "jq -e 'all(.[]; .ended.exit == \"lost\" or ((.id | test(\"^w\")) and .ended.exit == {code: ((.id | split(\"-\")[1] | tonumber) % 7 + 1)}))' $work/all"
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
