//! `hooks`: all six kinds, what they are told and what their failure means.

use serde_json::{Value, json};

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn hooks() {
    check(&cases());
}

/// A program for hooks, written by a child process before anything runs it. It appends its argument to `seen`.
const HOOK: &str = "cat > hook <<'E'\n#!/bin/sh\ncat > @bundle/state-$1\necho \"$1\" >> @bundle/seen\ntest \"$2\" != fail\nE\nchmod 755 hook\n";

fn hook(name: &str, more: &[&str]) -> Value {
    let args: Vec<&str> = ["hook", name].into_iter().chain(more.iter().copied()).collect();
    json!([{"path": "@bundle/hook", "args": args}])
}

fn with(name: &'static str, kind: &str, more: &[&str]) -> Case {
    case(name).before(HOOK).set(&format!("/hooks/{kind}"), hook(kind, more))
}

pub(crate) fn cases() -> Vec<Case> {
    let state = |kind: &str| {
        format!(
            "python3 -c \"import json; s = json.load(open('state-{kind}')); print(s['id'], s['status'], s['bundle'], s.get('pid', 0) > 0)\""
        )
    };
    vec![
        case("hooks in their order").before(HOOK)
            .set("/hooks", json!({
                "prestart": hook("prestart", &[]), "createRuntime": hook("createRuntime", &[]),
                "poststart": hook("poststart", &[]), "poststop": hook("poststop", &[]),
            }))
            .args(&["true"]).after("cat seen").prints("prestart\ncreateRuntime\npoststart\npoststop\n"),
        with("prestart is told the state", "prestart", &[]).args(&["true"]).after(&state("prestart")).prints("@id creating @bundle True\n")
            .but_prints(Crun, "@id created @bundle True\n", "crun says created"),
        with("createRuntime is told the state", "createRuntime", &[]).args(&["true"]).after(&state("createRuntime")).prints("@id creating @bundle True\n")
            .but_prints(Crun, "@id created @bundle True\n", "crun says created"),
        with("poststart is told the state", "poststart", &[]).sh("sleep 1").after(&state("poststart")).prints("@id running @bundle True\n").without(Runc, "runc says created or running, as it happens"),
        with("poststop is told the state", "poststop", &[]).args(&["true"]).after(&state("poststop")).prints("@id stopped @bundle False\n"),
        with("prestart fails", "prestart", &["fail"]).refused("prestart"),
        with("createRuntime fails", "createRuntime", &["fail"]).refused("createRuntime"),
        with("poststop fails", "poststop", &["fail"]).args(&["true"]).prints(""),
        case("a hook that is not there").set("/hooks/createRuntime", json!([{"path": "/nowhere/hook"}])).refused("/nowhere/hook"),
        case("a hook's environment").before("cat > hook <<'E'\n#!/bin/sh\n/usr/bin/env | grep -v -E '^(PWD|SHLVL|_)=' > @bundle/seen\nE\nchmod 755 hook")
            .set("/hooks/createRuntime", json!([{"path": "@bundle/hook", "env": ["A=1", "B=2"]}]))
            .args(&["true"]).after("sort seen").prints("A=1\nB=2\n"),
        case("createContainer runs in the container's mounts").before("printf '#!/bin/sh\\ncat > /dev/null\\necho in > /created\\n' > rootfs/hook; cp rootfs/hook hook; chmod 755 hook rootfs/hook; sed -i 's,/created,@bundle/rootfs/created,' hook")
            .set("/hooks/createContainer", json!([{"path": "@bundle/hook"}])).sh("cat /created").prints("in\n"),
        case("startContainer runs in the container").before("printf '#!/bin/sh\\ncat > /dev/null\\necho in > /started\\n' > rootfs/hook; chmod 755 rootfs/hook")
            .set("/hooks/startContainer", json!([{"path": "/hook"}])).sh("cat /started").prints("in\n"),
        case("startContainer fails").set("/hooks/startContainer", json!([{"path": "/bin/false"}])).refused("startContainer"),
        case("a hook that takes too long").before("printf '#!/bin/sh\\nexec sleep 100\\n' > hook; chmod 755 hook")
            .set("/hooks/createRuntime", json!([{"path": "@bundle/hook", "timeout": 1}])).refused("createRuntime"),
        case("a hook with a relative path").set("/hooks/createRuntime", json!([{"path": "hook"}])).refused("hook")
            .before("printf '#!/bin/sh\\nfalse\\n' > hook; chmod 755 hook"),
        case("annotations are told").before(HOOK).set("/annotations", json!({"org.example.a": "b"}))
            .set("/hooks/createRuntime", hook("createRuntime", &[])).args(&["true"])
            .after("python3 -c \"import json; print(json.load(open('state-createRuntime'))['annotations']['org.example.a'])\"").prints("b\n"),
    ]
}
