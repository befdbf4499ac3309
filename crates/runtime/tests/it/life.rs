//! The life of a container.

use model::{Exit, Reason, State};
use runtime::Kind;
use testkit::Bundle;

use crate::kit::{Kit, id, run};

#[test]
fn created_started_ended_deleted() {
    let kit = Kit::new("life");
    let bundle = Bundle::shell("life", "echo hello; echo oops >&2; exit 7");
    run(async {
        let (container, log) = kit.create_logged(&bundle).await;
        let status = container.status();
        assert_eq!(status.state, State::Created);
        assert!(status.pid.is_some_and(|pid| pid > 1));
        assert_eq!((status.started_ns, status.ended.clone()), (None, None));
        container.start().await.expect("start");
        let ended = container.wait().await.expect("wait");
        assert_eq!((ended.exit, ended.code, ended.reason), (Exit::Code(7), 7, Reason::Error));
        let status = container.status();
        assert_eq!((status.state, status.pid), (State::Exited, None));
        assert!(status.created_ns <= status.started_ns.expect("started"));
        assert!(status.started_ns <= ended.finished_ns);
        let text = std::fs::read_to_string(&log).expect("log");
        assert!(text.contains(" stdout F hello\n") && text.contains(" stderr F oops\n"), "{text}");
        let again = container.start().await.expect_err("an exited container");
        assert_eq!(again.kind(), Kind::Precondition, "{again}");
        container.delete(false).await.expect("delete");
        container.delete(false).await.expect("delete again");
        assert_eq!(kit.runtimes.get(&id(bundle.id())).await.expect_err("gone").kind(), Kind::NotFound);
        std::fs::remove_file(log).expect("the log is the caller's");
    });
    drop(bundle);
    kit.finish();
}
