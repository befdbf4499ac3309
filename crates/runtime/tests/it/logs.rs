//! Logs of real containers.

use model::log::Stream;
use runtime::{LogLine, LogOptions, LogReader};
use testkit::Bundle;

use crate::rig::{LONG, Rig, TERM, waiter};

async fn all(mut reader: LogReader) -> Vec<LogLine> {
    let mut lines = Vec::new();
    while let Some(line) = reader.next().await.unwrap() {
        lines.push(line);
    }
    lines
}

fn texts(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.content).into_owned()).collect()
}

fn follow() -> LogOptions {
    LogOptions { follow: true, ..LogOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_gives_every_line_and_ends_with_the_container() {
    let rig = Rig::new("logs");
    let bundle = Bundle::shell(
        "logs",
        "i=0; while [ $i -lt 2000 ]; do echo line-$i; i=$((i+1)); done; echo last >&2; exit 3",
    );
    let container = rig.create(&bundle).await;
    let reader = container.logs(follow()).await.unwrap();
    let lines = tokio::spawn(all(reader));
    container.start().await.unwrap();
    let lines = lines.await.unwrap();
    let expected: Vec<String> = (0..2000).map(|i| format!("line-{i}")).collect();
    let of = |stream| texts(&lines.iter().filter(|l| l.stream == stream).cloned().collect::<Vec<_>>());
    assert_eq!(of(Stream::Stdout), expected);
    assert_eq!(of(Stream::Stderr), ["last"]);
    assert!(lines.iter().all(|line| line.ended));
    assert_eq!(container.wait().await.unwrap().code, 3);
    // The past of one that is over, whole and in parts.
    assert_eq!(all(container.logs(LogOptions::default()).await.unwrap()).await, lines);
    let tail = LogOptions { tail: Some(7), ..follow() };
    assert_eq!(all(container.logs(tail).await.unwrap()).await, lines[lines.len() - 7..]);
    let middle = lines[1000].time_ns;
    let since = LogOptions { since_ns: Some(middle), ..LogOptions::default() };
    let since = all(container.logs(since).await.unwrap()).await;
    let until = LogOptions { until_ns: Some(middle), ..LogOptions::default() };
    let until = all(container.logs(until).await.unwrap()).await;
    assert!(since.iter().all(|l| l.time_ns >= middle) && until.iter().all(|l| l.time_ns < middle));
    assert_eq!(since.len() + until.len(), lines.len());
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_of_long_lines_are_joined() {
    let rig = Rig::new("long");
    let line = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no newline'";
    let bundle = Bundle::shell("long", line);
    let container = rig.start(&bundle).await;
    let lines = all(container.logs(follow()).await.unwrap()).await;
    assert_eq!(lines.len(), 2, "{:?}", lines.iter().map(|l| l.content.len()).collect::<Vec<_>>());
    assert_eq!(lines[0].content, vec![b'x'; 100_000]);
    assert!(lines[0].ended);
    assert_eq!(lines[1].content, b"no newline");
    container.wait().await.unwrap();
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_cancelled_goes_on_without_loss() {
    let rig = Rig::new("logs-cancel");
    let bundle = waiter("logs-cancel", "trap 'exit 0' TERM; trap 'echo more' USR1");
    let container = rig.ready(&bundle).await;
    let mut reader = container.logs(follow()).await.unwrap();
    let (mut seen, mut asked) = (Vec::new(), false);
    while seen.len() < 2 {
        // Far too short a time, again and again.
        match tokio::time::timeout(std::time::Duration::from_micros(500), reader.next()).await {
            Ok(line) => seen.push(line.unwrap().unwrap()),
            Err(_) if seen.len() == 1 && !asked => {
                container.kill("USR1".parse().unwrap()).await.unwrap();
                asked = true;
            }
            Err(_) => {}
        }
    }
    assert_eq!(texts(&seen), ["ready", "more"]);
    container.stop(TERM, LONG).await.unwrap();
    container.delete(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_loses_nothing() {
    let rig = Rig::new("rotate");
    let bundle = waiter("rotate", "trap 'exit 0' TERM; trap 'echo one-more' USR1");
    let container = rig.ready(&bundle).await;
    let reader = container.logs(follow()).await.unwrap();
    let lines = tokio::spawn(all(reader));
    let log = rig.log(&bundle);
    for name in ["20260101-000001", "20260101-000002"] {
        // As the kubelet does it.
        std::fs::rename(&log, format!("{}.{name}", log.display())).unwrap();
        container.reopen_log().await.unwrap();
        testkit::wait_until("the new file", || log.exists());
        container.kill("USR1".parse().unwrap()).await.unwrap();
        rig.said(&bundle, "one-more");
    }
    container.stop(TERM, LONG).await.unwrap();
    assert_eq!(texts(&lines.await.unwrap()), ["ready", "one-more", "one-more"]);
    let past = all(container.logs(LogOptions::default()).await.unwrap()).await;
    assert_eq!(texts(&past), ["ready", "one-more", "one-more"]);
    container.delete(false).await.unwrap();
}
