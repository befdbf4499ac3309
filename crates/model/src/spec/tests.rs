use super::*;

fn plain() -> ContainerSpec {
    ContainerSpec { rootfs: "/rootfs".into(), args: vec!["/bin/true".to_owned()], ..ContainerSpec::default() }
}

/// Compares with tests/data/NAME.json; WHARF_UPDATE_GOLDEN=1 writes it anew.
fn golden(name: &str, spec: &ContainerSpec, host: Host) {
    let mut config = spec.to_config(host).unwrap();
    // The profile has tests of its own; here it matters whether it is there.
    if let Some(seccomp) = config["linux"].get_mut("seccomp") {
        *seccomp = json!({"defaultAction": seccomp["defaultAction"]});
    }
    let text = serde_json::to_string_pretty(&config).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.json"));
    if std::env::var_os("WHARF_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{} differs (WHARF_UPDATE_GOLDEN=1 writes it):\n{text}", path.display());
}

#[test]
fn golden_plain() {
    golden("spec-plain", &plain(), Host { cgroup_v2: false });
}

#[test]
fn golden_everything() {
    let spec = ContainerSpec {
        env: vec!["A=1".to_owned(), "PATH=/bin".to_owned(), "A=2".to_owned()],
        workdir: Some("/srv".to_owned()),
        user: User { uid: 1000, gid: 100, additional_gids: vec![5] },
        hostname: Some("box".to_owned()),
        terminal: true,
        read_only: true,
        network: Network::Host,
        cap_add: vec!["net_admin".to_owned()],
        cap_drop: vec!["CAP_CHOWN".to_owned()],
        no_new_privileges: true,
        mounts: vec![
            "type=bind,source=/data,target=/data,ro".parse().unwrap(),
            "type=tmpfs,target=/dev/shm,size=1m".parse().unwrap(),
        ],
        resources: serde_json::from_value(json!({
            "memory": {"limit": 64 << 20}, "cpu": {"quota": 50_000, "period": 100_000}, "pids": {"limit": 100},
        }))
        .unwrap(),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), soft: 1024, hard: 4096 }],
        oom_score_adj: Some(100),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        ..plain()
    };
    golden("spec-everything", &spec, Host { cgroup_v2: true });
}

#[test]
fn golden_privileged() {
    golden("spec-privileged", &ContainerSpec { privileged: true, ..plain() }, Host { cgroup_v2: true });
}

#[test]
fn capabilities_added_and_dropped() {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let bounding = |add: &[&str], drop: &[&str]| {
        let spec = ContainerSpec { cap_add: words(add), cap_drop: words(drop), ..plain() };
        spec.effective_capabilities().map(|names| names.len())
    };
    assert_eq!(bounding(&[], &[]), Ok(11));
    assert_eq!(bounding(&["SYS_ADMIN"], &[]), Ok(12));
    assert_eq!(bounding(&["chown"], &["all"]), Ok(1));
    assert_eq!(bounding(&["ALL"], &["cap_sys_admin"]), Ok(40));
    assert_eq!(bounding(&[], &["ALL"]), Ok(0));
    let error = bounding(&["FLY"], &[]).unwrap_err().to_string();
    assert_eq!(error, "capability \"FLY\": no such capability");
}

#[test]
fn bad_requests() {
    let cases: [(&str, ContainerSpec); 8] = [
        ("rootfs", ContainerSpec { rootfs: "rel".into(), ..plain() }),
        ("command", ContainerSpec { args: vec![], ..plain() }),
        ("command", ContainerSpec { args: vec![String::new()], ..plain() }),
        ("argument", ContainerSpec { args: vec!["a\0b".to_owned()], ..plain() }),
        ("variable", ContainerSpec { env: vec!["=x".to_owned()], ..plain() }),
        ("working directory", ContainerSpec { workdir: Some("srv".to_owned()), ..plain() }),
        ("host name", ContainerSpec { hostname: Some("a b".to_owned()), ..plain() }),
        (
            "cpu.shares",
            ContainerSpec {
                resources: serde_json::from_value(json!({"cpu": {"shares": 1}})).unwrap(),
                ..plain()
            },
        ),
    ];
    for (what, spec) in cases {
        let error = spec.to_config(Host::default()).unwrap_err().to_string();
        assert!(error.starts_with(what), "{error}");
    }
}
