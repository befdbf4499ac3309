//! Against a bus of our own making, which speaks the wire format from the other side.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::wire::{Decoder, Encoder};
use super::*;

struct Socket(PathBuf);

impl Socket {
    fn new(what: &str) -> (Self, UnixListener) {
        let path = PathBuf::from(format!("/tmp/wh-bus-{what}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        (Self(path), listener)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Answers the sign-in, then every call as `answer` says: its body or an error's name, and signals to send first.
pub(super) fn serve(
    mut stream: UnixStream,
    mut answer: impl FnMut(&str, &[Value]) -> (Vec<Vec<Value>>, Result<Vec<Value>, String>),
) -> Vec<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    assert!(line.starts_with(b"\0AUTH EXTERNAL 3"), "{line:?}");
    // It comes before we say OK: systemd loses sight of what it reads together with a later one.
    let mut begin = [0; 7];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"BEGIN\r\n");
    stream.write_all(b"OK 0123\r\n").unwrap();
    let mut calls = Vec::new();
    loop {
        let mut bytes = vec![0; 16];
        if stream.read_exact(&mut bytes).is_err() {
            return calls;
        }
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (body, serial, fields) = (word(4) as usize, word(8), word(12) as usize);
        let start = (16 + fields).next_multiple_of(8);
        bytes.resize(start + body, 0);
        stream.read_exact(&mut bytes[16..]).unwrap();
        let header = Decoder::new(&bytes, 12).values("a(yv)").unwrap();
        let Value::List(header) = &header[0] else { panic!("{header:?}") };
        let field = |wanted: u8| {
            header.iter().find_map(|field| match field {
                Value::Struct(pair) if pair[0] == Value::Byte(wanted) => match &pair[1] {
                    Value::Variant(value) => match value.as_ref() {
                        Value::Str(text) | Value::Signature(text) => Some(text.clone()),
                        _ => None,
                    },
                    _ => None,
                },
                _ => None,
            })
        };
        let method = field(3).unwrap();
        let arguments = Decoder::new(&bytes[start..], 0).values(&field(8).unwrap_or_default()).unwrap();
        let (signals, result) = answer(&method, &arguments);
        calls.push(method);
        for signal in signals {
            stream.write_all(&message(4, 0, &[(3, Value::Str("JobRemoved".into()))], &signal)).unwrap();
        }
        let reply = match result {
            Ok(values) => message(2, serial, &[], &values),
            Err(name) => message(3, serial, &[(4, Value::Str(name))], &[Value::Str("as it is".into())]),
        };
        stream.write_all(&reply).unwrap();
    }
}

fn message(kind: u8, reply_to: u32, more: &[(u8, Value)], values: &[Value]) -> Vec<u8> {
    let mut body = Encoder::default();
    values.iter().for_each(|value| body.value(value));
    let mut fields = more.to_vec();
    fields.push((5, Value::U32(reply_to)));
    fields.push((8, Value::Signature(values.iter().map(Value::signature).collect())));
    let fields = fields
        .into_iter()
        .map(|(number, value)| Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))]));
    let mut out = Encoder { bytes: vec![b'l', kind, 0, 1] };
    out.value(&Value::U32(u32::try_from(body.bytes.len()).unwrap()));
    out.value(&Value::U32(9));
    out.value(&Value::Array("(yv)", fields.collect()));
    out.align(8);
    out.bytes.extend(body.bytes);
    out.bytes
}

fn unit() -> Unit {
    Unit { name: "p-n.scope".into(), slice: "system.slice".into(), user: false }
}

fn job(path: &str, result: &str) -> Vec<Value> {
    vec![Value::U32(1), Value::Path(path.into()), Value::Str("p-n.scope".into()), Value::Str(result.into())]
}

#[test]
fn a_job_is_waited_for() {
    for (broker, result) in [(false, "done"), (true, "failed")] {
        let (socket, listener) = Socket::new(result);
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, |method, arguments| match method {
                "StartTransientUnit" => {
                    assert_eq!(arguments[0], Value::Str("p-n.scope".into()));
                    // The signal of this job may come before the answer, and those of others at any time.
                    (
                        vec![job("/job/1", "failed"), job("/job/7", result)],
                        Ok(vec![Value::Path("/job/7".into())]),
                    )
                }
                _ => (vec![], Ok(vec![])),
            })
        });
        let mut bus = Bus::open(socket.0.to_str().unwrap(), broker).unwrap();
        bus.subscribe().unwrap();
        let arguments = [Value::Str("p-n.scope".into())];
        let outcome = run(&mut bus, "StartTransientUnit", &unit(), &arguments);
        drop(bus);
        let calls = server.join().unwrap();
        if broker {
            assert_eq!(calls, ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
            let error = outcome.unwrap_err().to_string();
            assert_eq!(error, "StartTransientUnit p-n.scope: the job ended as failed");
        } else {
            assert_eq!(calls, ["Subscribe", "StartTransientUnit"]);
            outcome.unwrap();
        }
    }
}

#[test]
fn an_error_is_told() {
    let (socket, listener) = Socket::new("error");
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve(stream, |_, _| (vec![], Err(NO_SUCH_UNIT.to_owned())))
    });
    let mut bus = Bus::open(socket.0.to_str().unwrap(), false).unwrap();
    let error = call(&mut bus, "StopUnit", &unit(), &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("StopUnit p-n.scope: {NO_SUCH_UNIT}: as it is"));
    drop(bus);
    server.join().unwrap();
    assert!(
        Bus::open("/nowhere/bus", false)
            .unwrap_err()
            .to_string()
            .starts_with("connect to systemd at /nowhere/bus: ")
    );
}

#[test]
fn values_survive_the_wire() {
    let values = [
        Value::Byte(7),
        Value::Bool(true),
        Value::I64(-3),
        Value::Str("ü".into()),
        Value::U64(u64::MAX),
        Value::Struct(vec![Value::Byte(1), Value::U32(2), Value::Path("/a".into())]),
        Value::Variant(Box::new(Value::Str("in".into()))),
        Value::I32(-1),
    ];
    let mut encoder = Encoder::default();
    values.iter().for_each(|value| encoder.value(value));
    let signature: String = values.iter().map(Value::signature).collect();
    assert_eq!(signature, "ybxst(yuo)vi");
    assert_eq!(Decoder::new(&encoder.bytes, 0).values(&signature).unwrap(), values);
    for cut in 0..encoder.bytes.len() {
        assert_eq!(Decoder::new(&encoder.bytes[..cut], 0).values(&signature), None, "{cut}");
    }
    let nested = Value::Array("(sv)", vec![]);
    let mut encoder = Encoder::default();
    encoder.value(&nested);
    assert_eq!(encoder.bytes.len(), 8);
    // What never ends, or is too deep, is refused.
    for bad in ["a", "(", "(s", "a()", "z", &"a".repeat(40)] {
        assert_eq!(Decoder::new(&[1; 64], 0).values(bad), None, "{bad}");
    }
}

fn request<'a>(resources: &'a LinuxResources, annotations: &'a BTreeMap<String, String>) -> Request<'a> {
    Request {
        id: "c1",
        cgroups_path: None,
        resources,
        annotations,
        driver: crate::cgroup::Driver::Systemd,
        rights: crate::cgroup::Rights::Root,
        owner: None,
    }
}

#[test]
fn a_scope_has_its_limits() {
    let resources: LinuxResources = serde_json::from_value(serde_json::json!({
        "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"},
        "pids": {"limit": -1}
    }))
    .unwrap();
    let annotations = BTreeMap::from([("org.systemd.property.TimeoutStopSec".to_owned(), "2".to_owned())]);
    let request = request(&resources, &annotations);
    let properties = properties::start(&unit(), &request, 42, true).unwrap();
    let get = |name: &str| properties.iter().find(|p| p.0 == name).map(|p| p.1.clone());
    let expected = [
        ("Slice", Value::Str("system.slice".into())),
        ("Delegate", Value::Bool(true)),
        ("PIDs", Value::Array("u", vec![Value::U32(42)])),
        ("MemoryMax", Value::U64(1000)),
        ("MemorySwapMax", Value::U64(500)),
        ("MemoryLow", Value::U64(500)),
        ("CPUWeight", Value::U64(100)),
        ("CPUQuotaPerSecUSec", Value::U64(500_000)),
        ("CPUQuotaPeriodUSec", Value::U64(100_000)),
        ("AllowedCPUs", Value::Array("y", vec![Value::Byte(3)])),
        ("TasksMax", Value::U64(u64::MAX)),
        ("TimeoutStopUSec", Value::U64(2_000_000)),
    ];
    for (name, value) in expected {
        assert_eq!(get(name), Some(value), "{name}");
    }
    // On v2 the devices are a program of ours, on v1 one list that both write.
    assert_eq!((get("DevicePolicy"), get("DeviceAllow")), (Some(Value::Str("auto".into())), None));
    let v1 = properties::limits(&resources, false);
    let names: Vec<_> = v1.iter().map(|p| p.0.as_str()).collect();
    assert_eq!(names, ["MemoryLimit", "CPUShares", "CPUQuotaPeriodUSec", "CPUQuotaPerSecUSec", "TasksMax"]);
    let wrong = BTreeMap::from([("org.systemd.property.KillMode".to_owned(), "mixed".to_owned())]);
    let request = Request { annotations: &wrong, ..request };
    assert!(matches!(properties::start(&unit(), &request, 42, true), Err(Error::Annotation(_))));
}

#[test]
fn annotations_are_used_or_told() {
    let annotations =
        [("After", "['crio.service']"), ("DefaultDependencies", "true"), ("MemoryMax", "uint64 9")];
    let annotations: BTreeMap<_, _> = annotations
        .map(|(name, text)| (format!("org.systemd.property.{name}"), text.to_owned()))
        .into_iter()
        .chain([("other".to_owned(), "x".to_owned())])
        .collect();
    let resources = LinuxResources::default();
    let request = request(&resources, &annotations);
    let properties = properties::start(&unit(), &request, 42, true).unwrap();
    let all = |name: &str| properties.iter().filter(|p| p.0 == name).map(|p| p.1.clone()).collect::<Vec<_>>();
    assert_eq!(all("After"), [Value::Array("s", vec![Value::Str("crio.service".into())])]);
    assert_eq!(all("DefaultDependencies"), [Value::Bool(true)]);
    assert_eq!(all("MemoryMax"), []);
    assert_eq!(ignored_annotations(&annotations).collect::<Vec<_>>(), ["org.systemd.property.MemoryMax"]);
}

#[test]
fn files_of_v2_and_weights_are_told() {
    let parse = |json| serde_json::from_value::<LinuxResources>(json).unwrap();
    let before = parse(
        serde_json::json!({"memory": {"limit": 1000}, "cpu": {"idle": 1, "shares": 9}, "blockIO": {"weight": 10},
        "unified": {"memory.high": "900", "memory.max": "800", "memory.oom.group": "1"}}),
    );
    let names = |properties: &[Property]| {
        properties.iter().map(|Property(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>()
    };
    // What a file says wins over the field that says the same, as the files are written in that order.
    let told = ["CPUWeight=U64(0)", "IOWeight=U64(1)", "MemoryHigh=U64(900)", "MemoryMax=U64(800)"];
    assert_eq!(names(&properties::limits(&before, true)), told);
    let after = parse(serde_json::json!({"memory": {"limit": 2000, "reservation": 5}}));
    let max = u64::MAX;
    let undone =
        ["MemoryMax=U64(2000)".to_owned(), "MemoryLow=U64(5)".to_owned(), format!("CPUWeight=U64({max})")]
            .into_iter()
            .chain(["IOWeight", "MemoryHigh"].map(|name| format!("{name}=U64({max})")));
    assert_eq!(names(&properties::change(&before, &after, true)), undone.collect::<Vec<_>>());
    assert!(names(&properties::change(&after, &before, true)).contains(&"MemoryLow=U64(0)".to_owned()));
}

#[test]
fn an_old_systemd_is_not_told_what_it_does_not_know() {
    for (version, kept) in [("257.9-1~deb13u1", 3), ("v252", 2), ("251-rc1", 1), ("", 1)] {
        let (socket, listener) = Socket::new(&format!("version-{kept}-{}", version.len()));
        let server = std::thread::spawn(move || {
            serve(listener.accept().unwrap().0, |method, arguments| {
                assert_eq!((method, &arguments[1]), ("Get", &Value::Str("Version".into())));
                (vec![], Ok(vec![Value::Variant(Box::new(Value::Str(version.into())))]))
            })
        });
        let mut bus = Bus::open(socket.0.to_str().unwrap(), false).unwrap();
        let new = |name: &str, value| Property(name.to_owned(), value);
        let properties = vec![
            new("TasksMax", Value::U64(0)),
            new("CPUWeight", Value::U64(0)),
            new("OOMPolicy", Value::Str("kill".into())),
        ];
        assert_eq!(known(&mut bus, properties.clone()), properties[..kept], "{version}");
        // Nothing is asked where nothing is new.
        assert_eq!(known(&mut bus, properties[..1].to_vec()), properties[..1]);
        drop(bus);
        assert_eq!(server.join().unwrap(), ["Get"]);
    }
}
