# shellcheck shell=bash
# An AppArmor profile is enforced, in the container's program and in an exec; one that is not loaded is refused. Sourced by suite.
rootfs
cat >$work/profile <<END
profile wharf-vm flags=(attach_disconnected) {
  file,
  capability,
  signal,
  deny /etc/secret rw,
}
END
check "the profile loads" apparmor_parser -r $work/profile
echo treasure >$work/rootfs/etc/secret
for runtime in wharf-oci runc crun; do
    run="$runtime --root $work/aa-$runtime"
    bundle aa '.process.apparmorProfile = "wharf-vm"' sh -c 'cat /proc/self/attr/current; ! cat /etc/secret'
    holds "$runtime: the profile is enforced" "$run run --bundle $work/aa aa | grep -qx 'wharf-vm (enforce)'"
    holds "$runtime: what it denies is denied" "$run run --bundle $work/aa aa2"
    bundle aa '.process.apparmorProfile = "wharf-vm"' sleep 100000
    check "$runtime: in the background" $run run --detach --bundle $work/aa aa3
    holds "$runtime: an exec has it too" "$run exec aa3 cat /proc/self/attr/current | grep -qx 'wharf-vm (enforce)'"
    refuses "$runtime: an exec is denied the same" "$run exec aa3 cat /etc/secret"
    check "$runtime: delete" $run delete --force aa3
    bundle aa '.process.apparmorProfile = "not-loaded"' true
    refuses "$runtime: a missing profile is refused" "$run run --bundle $work/aa aa4"
    refuses "$runtime: of which nothing is left" "$run delete --force aa4 >/dev/null 2>&1; ls $work/aa-$runtime | grep -q aa4"
done
close
