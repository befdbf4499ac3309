//! The life of a container.

use model::{Exit, Reason, State};
use runtime::{CheckpointRequest, ExecRequest, Kind};
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

#[test]
fn a_checkpoint_is_made_or_refused_with_the_reason() {
    let kit = Kit::new("checkpoint");
    let bundle = Bundle::sleeper("checkpoint");
    let images = kit.scratch.path().join("images");
    run(async {
        let container = kit.create(&bundle).await;
        let request =
            CheckpointRequest { images: images.clone(), leave_running: false, ..Default::default() };
        let early = container.checkpoint(request.clone()).await.expect_err("created");
        assert_eq!(early.kind(), Kind::Precondition, "{early}");
        container.start().await.expect("start");
        let early = container.restore(request.clone()).await.expect_err("running");
        assert_eq!(early.kind(), Kind::Precondition, "{early}");
        match container.checkpoint(request.clone()).await {
            Ok(()) => {
                container.wait().await.expect("wait");
                container.restore(request).await.expect("restore");
                assert_eq!(container.status().state, State::Running);
            }
            Err(error) => {
                // criu does not know this kernel; the container must not have noticed.
                testkit::not_tested(&format!("a whole checkpoint: {error}"));
                assert!(matches!(error.kind(), Kind::Unsupported | Kind::Internal), "{error}");
                assert!(error.to_string().starts_with(&format!("checkpoint {}", container.id())), "{error}");
                let output = container.exec_sync(ExecRequest::new(["echo", "alive"])).await.expect("exec");
                assert_eq!(output.stdout, b"alive\n");
            }
        }
        container.delete(true).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}
