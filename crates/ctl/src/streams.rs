//! Our standard streams joined to a container's or an exec's.

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use model::signal::Signal;
use runtime::{Attached, Container, Exec, Output};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::mpsc;

use crate::detach::{DetachKeys, Typed, Watch};
use crate::terminal;

/// Pieces of standard input that may wait for the container to take them.
const INPUT_QUEUE: usize = 16;
const PIECE: usize = 16 * 1024;

/// Whom the streams belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer<'a> {
    /// A container: signals go to its init.
    Container(&'a Container),
    /// An exec: a signal to us ends it.
    Exec(&'a Exec),
}

/// How a session is held.
#[derive(Debug)]
pub(crate) struct Session {
    /// Our standard input goes to it.
    pub(crate) stdin: bool,
    /// It has a terminal: ours follows its size and every key is passed on.
    pub(crate) terminal: bool,
    /// The keys that leave it.
    pub(crate) detach: DetachKeys,
    /// Signals to us are passed on to the container.
    pub(crate) forward_signals: bool,
}

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The other side closed it.
    Ended,
    /// The detach keys were typed.
    Detached,
    /// A signal told us to leave.
    Told(Signal),
}

impl Session {
    /// Passes bytes both ways until the other side ends, or we leave.
    pub(crate) async fn hold(
        self,
        attached: &Attached,
        peer: Peer<'_>,
        mut signals: Signals,
    ) -> anyhow::Result<Left> {
        let _raw = (self.terminal && self.stdin).then(terminal::Raw::enter).transpose()?;
        let mut keys = Watch::new(self.detach.clone());
        let mut input = self.stdin.then(read_stdin).transpose()?;
        if self.terminal {
            follow_size(peer).await;
        }
        loop {
            tokio::select! {
                output = attached.read() => match output? {
                    Some(output) => show(&output)?,
                    None => return Ok(Left::Ended),
                },
                piece = next(&mut input), if input.is_some() => match piece {
                    None => {
                        input = None;
                        attached.close_stdin()?;
                    }
                    Some(bytes) => match keys.feed(&bytes) {
                        // A program that no longer reads is no failure of ours.
                        Typed::Pass(bytes) => if attached.write(&bytes).await.is_err() { input = None },
                        Typed::Detach(bytes) => {
                            let _ = attached.write(&bytes).await; // as above
                            return Ok(Left::Detached);
                        }
                    },
                },
                got = signals.next() => match got {
                    None if self.terminal => follow_size(peer).await,
                    None => {}
                    Some(signal) => match peer {
                        Peer::Container(container) if self.forward_signals => {
                            // It may be over by now, and then the session ends by itself.
                            if let Err(error) = container.kill(signal).await {
                                tracing::debug!(%error, "signal not passed on");
                            }
                        }
                        _ => return Ok(Left::Told(signal)),
                    },
                },
            }
        }
    }
}

/// The next piece; pends for ever where there is no input.
async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

async fn follow_size(peer: Peer<'_>) {
    let Some(size) = terminal::size() else { return };
    let done = match peer {
        Peer::Container(container) => container.resize(size).await,
        Peer::Exec(exec) => exec.resize(size).await,
    };
    if let Err(error) = done {
        tracing::debug!(%error, "terminal not resized");
    }
}

pub(crate) fn show(output: &Output) -> std::io::Result<()> {
    match output {
        Output::Stdout(bytes) => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Output::Stderr(bytes) => std::io::stderr().lock().write_all(bytes),
    }
}

/// Reads our standard input on a thread of its own: such a read can't be cancelled.
fn read_stdin() -> anyhow::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(INPUT_QUEUE);
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                match std::io::stdin().read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(n) => {
                        if sender.blocking_send(buffer[..n].to_vec()).is_err() {
                            return;
                        }
                    }
                }
            }
        })
        .context("start a thread for standard input")?;
    Ok(receiver)
}

/// The signals that a container is told of, and that of a changed window. Listened for before the program
/// starts, so that none of them ends us instead.
pub(crate) struct Signals {
    window: Stream,
    others: Vec<(Signal, Stream)>,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let window = signal(SignalKind::window_change())?;
        let mut others = Vec::new();
        for name in ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"] {
            let number: Signal = name.parse()?;
            others.push((number, signal(SignalKind::from_raw(number.number()))?));
        }
        Ok(Self { window, others })
    }

    /// The next signal that asks this program to end.
    pub(crate) async fn next_end(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.next().await
                && [1, 2, 3, 15].contains(&signal.number())
            {
                return signal;
            }
        }
    }

    /// The next signal; None for a changed window.
    async fn next(&mut self) -> Option<Signal> {
        std::future::poll_fn(|context| {
            if self.window.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(None);
            }
            for (number, stream) in &mut self.others {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(Some(*number));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
