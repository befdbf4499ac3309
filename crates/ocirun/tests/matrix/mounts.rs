//! `mounts`: kinds of file systems and where they are put.

use serde_json::json;

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn mounts() {
    check(&cases());
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("tmpfs").mount("/mnt", "tmpfs", "tmpfs", &[]).sh("touch /mnt/x; df -T /mnt | tail -1 | awk '{print $2}'").prints("tmpfs\n"),
        case("tmpfs size and mode").mount("/mnt", "tmpfs", "tmpfs", &["size=64k", "mode=700"])
            .sh("stat -c %a /mnt; df -k /mnt | tail -1 | awk '{print $2}'").prints("700\n64\n").but_prints(Runc, "755\n64\n", "runc gives it the mode of what it covers"),
        case("tmpfs uid and gid").mount("/mnt", "tmpfs", "tmpfs", &["uid=5", "gid=6"]).sh("stat -c %u:%g /mnt").prints("5:6\n"),
        case("tmpfs takes the mode of what it covers").before("mkdir rootfs/m; chmod 711 rootfs/m")
            .mount("/m", "tmpfs", "tmpfs", &[]).sh("stat -c %a /m").prints("711\n")
            .but_prints(Crun, "1777\n", "crun leaves the kernel's default"),
        case("tmpcopyup").before("mkdir rootfs/m; echo a > rootfs/m/f; ln -s f rootfs/m/l; mkdir rootfs/m/d; echo b > rootfs/m/d/g")
            .mount("/m", "tmpfs", "tmpfs", &["tmpcopyup"])
            .sh("cat /m/f /m/d/g; readlink /m/l; echo x > /m/f; df -T /m | tail -1 | awk '{print $2}'")
            .after("cat rootfs/m/f").prints("a\nb\nf\ntmpfs\na\n"),
        case("bind a directory").before("mkdir src; echo a > src/f").mount("/mnt", "bind", "@bundle/src", &["bind"])
            .sh("cat /mnt/f; echo b > /mnt/f").after("cat src/f").prints("a\nb\n"),
        case("bind relative to the bundle").before("mkdir src; echo a > src/f").mount("/mnt", "bind", "src", &["bind"])
            .sh("cat /mnt/f").prints("a\n"),
        case("bind read-only").before("mkdir src").mount("/mnt", "bind", "src", &["bind", "ro"])
            .sh("touch /mnt/x 2>&1").exits(1, "touch: /mnt/x: Read-only file system\n"),
        case("bind without the type").before("mkdir src; echo a > src/f").mount("/mnt", "none", "src", &["bind"]).sh("cat /mnt/f").prints("a\n"),
        case("bind by type alone").before("mkdir src; echo a > src/f").mount("/mnt", "bind", "src", &[]).sh("cat /mnt/f").prints("a\n").but_refused(Runc, "runc wants the option").but_refused(Crun, "crun wants the option"),
        case("bind a file onto one that is made").before("echo a > f").mount("/new/file", "bind", "f", &["bind"])
            .sh("cat /new/file; stat -c %F /new/file").prints("a\nregular file\n"),
        case("bind a file onto one that is there").before("echo a > f").mount("/etc/hosts", "bind", "f", &["bind", "ro"])
            .sh("cat /etc/hosts; (echo x > /etc/hosts) 2>/dev/null || echo denied").prints("a\ndenied\n"),
        case("bind a socket").before("cat > mk.py <<'E'\nimport socket\nsocket.socket(socket.AF_UNIX).bind('s')\nE\npython3 mk.py")
            .mount("/run/s", "bind", "s", &["bind"]).sh("stat -c %F /run/s").prints("socket\n"),
        case("bind has what is mounted below only when recursive")
            .before("mkdir -p src/sub; mount -t tmpfs x src/sub; touch src/sub/f")
            .mount("/mnt", "bind", "src", &["bind"]).mount("/root", "bind", "src", &["rbind"])
            .sh("ls /mnt/sub; ls /root/sub").prints("f\n"),
        case("recursive bind read-only is not read-only below")
            .before("mkdir -p src/sub; mount -t tmpfs x src/sub")
            .mount("/mnt", "bind", "src", &["rbind", "ro"])
            .sh("touch /mnt/x 2>/dev/null || echo denied; touch /mnt/sub/x && echo ok").prints("denied\nok\n"),
        case("rro is read-only below too").before("mkdir -p src/sub; mount -t tmpfs x src/sub")
            .mount("/mnt", "bind", "src", &["rbind", "rro"])
            .sh("for d in /mnt /mnt/sub; do touch $d/x 2>/dev/null || echo denied; done").prints("denied\ndenied\n"),
        case("bind source missing").mount("/mnt", "bind", "@bundle/nowhere", &["bind"]).refused("@bundle/nowhere").refused("nowhere"),
        case("destination is made").mount("/a/b/c", "tmpfs", "tmpfs", &[]).sh("stat -c %a /a /a/b | tr '\\n' ' '; touch /a/b/c/x && echo ok").prints("755 755 ok\n").but_prints(Crun, "1755 1755 ok\n", "crun makes them sticky"),
        case("destination through a link stays inside").before("ln -s /etc rootfs/l").mount("/l", "tmpfs", "tmpfs", &[])
            .sh("ls /etc").after("test -f rootfs/etc/hosts && echo kept").prints("kept\n"),
        case("destination through a link out of the root").before("ln -s ../../../../../../../../../../tmp rootfs/l")
            .mount("/l/@id", "tmpfs", "tmpfs", &[]).sh("test -d /tmp/@id && echo inside").after("test ! -e /tmp/@id && echo clean").prints("inside\nclean\n"),
        case("relative destination").mount("mnt", "tmpfs", "tmpfs", &[]).sh("df -T /mnt | tail -1 | awk '{print $2}'").prints("tmpfs\n"),
        case("destination with dots").mount("/etc/../mnt/./", "tmpfs", "tmpfs", &[]).sh("df -T /mnt | tail -1 | awk '{print $2}'").prints("tmpfs\n"),
        case("mounts in their order").mount("/mnt", "tmpfs", "tmpfs", &[]).mount("/mnt/in", "tmpfs", "tmpfs", &["size=32k"])
            .sh("df -k /mnt/in | tail -1 | awk '{print $2}'").prints("32\n"),
        case("a later mount covers an earlier").before("mkdir src; touch src/f").mount("/mnt", "bind", "src", &["bind"])
            .mount("/mnt", "tmpfs", "tmpfs", &[]).sh("ls /mnt").prints(""),
        case("proc is of the container").shared().sh("ls -d /proc/[0-9]* | wc -l | awk '{print ($1 < 6)}'").prints("1\n"),
        case("proc with options").set("/mounts/0", json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "ro"]}))
            .sh("grep ' /proc ' /proc/self/mountinfo | cut -d' ' -f6").prints("ro,nosuid,relatime\n"),
        case("proc with hidepid").set("/mounts/0", json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["hidepid=2"]}))
            .sh("grep ' /proc ' /proc/self/mountinfo | grep -c hidepid").prints("1\n"),
        case("proc elsewhere").mount("/mnt", "proc", "proc", &[]).sh("test -f /mnt/self/status && echo ok").prints("ok\n"),
        case("sysfs is read-only").shared().sh("touch /sys/kernel/x 2>&1 | head -1").prints("touch: /sys/kernel/x: Read-only file system\n"),
        case("mqueue").shared().sh("grep ' /dev/mqueue ' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1").prints("mqueue\n"),
        case("devpts is its own").shared().sh("ls /dev/pts; grep ' /dev/pts ' /proc/self/mountinfo | sed 's/.* - devpts devpts //'").prints("ptmx\nrw,gid=5,mode=620,ptmxmode=666\n"),
        case("shm").shared().sh("grep ' /dev/shm ' /proc/self/mountinfo | cut -d' ' -f6; stat -c %a /dev/shm").prints("rw,nosuid,nodev,noexec,relatime\n1777\n"),
        case("an unknown file system").mount("/mnt", "fancyfs", "x", &[]).refused("fancyfs"),
        case("overlay").before("mkdir lo up wo; echo lower > lo/f")
            .mount("/mnt", "overlay", "overlay", &["lowerdir=@bundle/lo", "upperdir=@bundle/up", "workdir=@bundle/wo"])
            .sh("cat /mnt/f; echo upper > /mnt/f").after("cat lo/f up/f").prints("lower\nlower\nupper\n"),
        case("cgroups are read-only").shared().sh("d=/sys/fs/cgroup/pids; test -d $d || d=/sys/fs/cgroup; mkdir $d/x 2>&1 | sed 's/.*: //'").prints("Read-only file system\n"),
        case("cgroups show the container's own").shared().sh("cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max").prints("512\n")
            .but_newer_exits(Runc, 1, "", "on version 2 runc shows the host's").but_newer_exits(Crun, 1, "", "on version 2 crun shows the host's"),
        case("cgroups with a namespace of its own").add("/linux/namespaces", json!({"type": "cgroup"}))
            .sh("cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max; grep -c -v ':/$' /proc/self/cgroup").exits(1, "512\n0\n"),
        case("cgroups writable").set("/mounts/6/options", json!(["nosuid", "noexec", "nodev", "relatime", "rw"]))
            .sh("d=/sys/fs/cgroup/pids; test -d $d || d=/sys/fs/cgroup; mkdir $d/x && rmdir $d/x && echo ok").prints("ok\n"),
        case("propagation of one mount shared").before("mkdir src; mount -t tmpfs x src; mount --make-shared src")
            .mount("/mnt", "bind", "src", &["bind", "shared"]).sh("grep ' /mnt ' /proc/self/mountinfo | grep -c shared:").prints("1\n").but_exits(Crun, 1, "0\n", "crun makes the root private afterwards"),
        case("propagation of one mount slave").before("mkdir src; mount -t tmpfs x src; mount --make-shared src")
            .set("/linux/rootfsPropagation", json!("slave"))
            .mount("/mnt", "bind", "src", &["bind", "rslave"]).sh("grep ' /mnt ' /proc/self/mountinfo | grep -c master:").prints("1\n"),
        case("propagation of one mount private").before("mkdir src; mount -t tmpfs x src; mount --make-shared src")
            .mount("/mnt", "bind", "src", &["bind", "rprivate"]).sh("grep ' /mnt ' /proc/self/mountinfo | grep -c -E 'master:|shared:'").exits(1, "0\n"),
        case("a mount inside proc that is not allowed").mount("/proc/sys", "tmpfs", "tmpfs", &[]).refused("/proc/sys").but_prints(Runc, "", "runc looks at binds alone").but_prints(Crun, "", "crun does not look"),
        case("a bind onto proc itself").before("mkdir src").set("/mounts/0", json!({"destination": "/proc", "type": "bind", "source": "src", "options": ["bind"]}))
            .refused("/proc").but_prints(Crun, "", "crun does not look"),
    ]
}
