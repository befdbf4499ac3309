use clap::{CommandFactory, Parser};

use super::{Cli, Command, duration};

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
    assert!(Cli::command().get_subcommands().count() >= 20);
}

#[test]
fn podman_habits() {
    let cli = Cli::try_parse_from([
        "wharf", "run", "-d", "-it", "--rm", "--name", "web", "-e", "A=1", "--memory", "64m", "--rootfs",
        "/r", "sh", "-c", "echo -n",
    ])
    .unwrap();
    let Command::Run(run) = cli.command else { panic!("not run") };
    assert!(run.detach && run.rm && run.container.interactive && run.container.tty);
    assert_eq!(run.container.args, ["sh", "-c", "echo -n"]);
    assert_eq!(run.container.limits.memory, Some(64 << 20));
}

#[test]
fn what_is_refused() {
    for bad in [
        &["wharf", "run"][..],
        &["wharf", "run", "--rootfs", "/r", "--bundle", "/b"],
        &["wharf", "rm"],
        &["wharf", "kill", "--signal", "NOPE", "x"],
        &["wharf", "stop", "--time", "soon", "x"],
        &["wharf", "exec", "x"],
        &["wharf", "ps", "--json", "--quiet"],
    ] {
        let error = Cli::try_parse_from(bad).expect_err("taken");
        assert_eq!(error.exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn bare_numbers_are_seconds() {
    assert_eq!(duration("5").unwrap().as_millis(), 5000);
    assert_eq!(duration("500ms").unwrap().as_millis(), 500);
    assert!(duration("-1").is_err());
}
