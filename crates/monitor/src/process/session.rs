//! All that the loop serves, and the loop itself.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sys::pages::Pages;
use sys::solo::SignalFd;

use super::children::{Children, Stranger};
use super::ctl::{self, Fifo, Order};
use super::execs::Execs;
use super::libc_signals::{CHLD, INT, KILL, QUIT, TERM};
use super::notify::Proxy;
use super::oom::{self, Watch};
use super::output::Output;
use super::place::AttachSocket;
use super::stdin::Stdin;
use super::stdio::{self, ConsoleSocket};
use super::sync::Pipe;
use super::{Settled, exit};
use crate::attach::{Clients, Said};
use crate::logs::Logs;
use crate::poll::{Kind, Poll, Ready, Token};
use crate::{Error, Stream, control, message};

/// The largest packet taken from an attach client; longer ones are cut.
const PACKET_MAX: usize = 32768;
/// After a failure to accept for want of descriptors, clients wait so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// A monitor at work.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) settled: &'a Settled<'a>,
    pub(super) poll: Rc<Poll>,
    pub(super) signals: SignalFd,
    pub(super) sync: Pipe,
    pub(super) logs: Logs,
    pub(super) children: Children,
    pub(super) output: Output,
    pub(super) stdin: Stdin,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) console: Option<ConsoleSocket>,
    pub(super) window: Option<(u16, u16)>,
    pub(super) attach: Option<AttachSocket>,
    pub(super) clients: Clients,
    pub(super) fifo: Option<(Fifo, ctl::Lines)>,
    pub(super) control: Option<control::Server>,
    pub(super) execs: Execs,
    pub(super) notify: Option<Proxy>,
    pub(super) oom: Option<Watch>,
    pub(super) oom_seen: bool,
    /// The process that we stand beside; before it is known, 0.
    pub(super) pid: i32,
    pub(super) stranger: Option<Stranger>,
    /// It was gone before anybody could wait for it.
    pub(super) lost: bool,
    /// The runtime, while it runs.
    pub(super) runtime: i32,
    pub(super) ended: Option<model::ExitRecord>,
    accept_again: Option<Instant>,
    packet: Pages,
    events: Vec<(Token, Ready)>,
}

impl<'a> Session<'a> {
    pub(super) fn new(settled: &'a Settled<'a>, logs: Logs, sync: Pipe) -> Result<Self, Error> {
        let fail = |op, object| move |cause: io::Error| Error::io(op, object, cause);
        let poll = Poll::new().map_err(fail("make", "epoll instance"))?;
        let signals = SignalFd::block(&[TERM, INT, QUIT, CHLD]).map_err(fail("block", "signals"))?;
        poll.add(&signals, Token::of(Kind::Signals), Ready::IN).map_err(fail("watch", "signals"))?;
        Ok(Self {
            settled,
            poll: Rc::new(poll),
            signals,
            sync,
            logs,
            children: Children::default(),
            output: Output::new().map_err(fail("allocate", "output buffer"))?,
            stdin: Stdin::none(),
            terminal: None,
            console: None,
            window: None,
            attach: None,
            clients: Clients::default(),
            fifo: None,
            control: None,
            execs: Execs::default(),
            notify: None,
            oom: None,
            oom_seen: false,
            pid: 0,
            stranger: None,
            lost: false,
            runtime: 0,
            ended: None,
            accept_again: None,
            packet: Pages::new(PACKET_MAX).map_err(fail("allocate", "packet buffer"))?,
            events: Vec::with_capacity(16),
        })
    }

    /// Waits until something happens, at most until `deadline`, and serves it.
    pub(super) fn turn(&mut self, deadline: Option<Instant>) {
        let now = Instant::now();
        let oom_again = self.oom.as_ref().and_then(Watch::again_at);
        let deadlines =
            [deadline, self.accept_again, self.output.wake_at(), self.execs.deadline(), oom_again];
        let timeout = deadlines.into_iter().flatten().map(|at| at.saturating_duration_since(now));
        let timeout = timeout.chain(self.logs.flush_in()).chain(self.clients.wake_in()).min();
        // Rounded up: a wait that ends a moment too soon would only be repeated.
        let timeout =
            timeout.map(|timeout| timeout + Duration::from_micros(if timeout.is_zero() { 0 } else { 50 }));
        let mut events = std::mem::take(&mut self.events);
        if let Err(error) = self.poll.wait(&mut events, timeout) {
            message::error(format_args!("epoll_wait: {error}"));
            std::thread::sleep(Duration::from_millis(100));
        }
        for &(token, ready) in &events {
            self.serve(token, ready);
        }
        self.events = events;
        self.after_turn();
    }

    /// What deadlines ask for, and what the events have changed.
    #[inline(never)]
    fn after_turn(&mut self) {
        let now = Instant::now();
        if self.logs.flush_in() == Some(Duration::ZERO) && self.logs.tick() {
            self.output.rest();
        }
        if self.clients.wake_in() == Some(Duration::ZERO) {
            self.clients.tick(&self.poll);
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            if let Some(attach) = &self.attach {
                // It was watched before; if it can't be again, the next pause tries.
                if self.poll.add(attach, Token::of(Kind::AttachListener), Ready::IN).is_err() {
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                }
            }
        }
        if self.oom.as_ref().and_then(Watch::again_at).is_some_and(|at| at <= now) {
            self.look_for_oom();
        }
        self.output.adjust(self.clients.congested() || self.logs.congested(), &self.poll);
        self.clients.set_reading(self.stdin.wants_more(), &self.poll);
        self.serve_execs();
    }

    #[inline(never)]
    fn serve(&mut self, token: Token, ready: Ready) {
        match token.kind {
            Kind::Signals => self.take_signals(),
            Kind::Stdout => self.copy(Stream::Stdout),
            Kind::Stderr => self.copy(Stream::Stderr),
            Kind::Stdin => self.stdin.flush(&self.poll),
            Kind::Ctl => self.take_orders(),
            Kind::AttachListener => self.accept(),
            Kind::AttachClient => self.hear_client(token.index, ready),
            Kind::ControlListener => {
                if let Some(control) = &mut self.control {
                    control.accept(&self.poll);
                }
            }
            Kind::ControlClient => {
                self.with_control(|control, session, poll| control.ready(token.index, ready, session, poll));
            }
            Kind::Console => self.take_terminal(),
            Kind::Oom => self.look_for_oom(),
            Kind::Notify => {
                if let Some(notify) = &self.notify {
                    notify.relay();
                }
            }
            // Its end is asked for by whoever waits for it.
            Kind::Pid => {}
            Kind::Exec => self.exec_ready(token.index),
        }
    }

    fn take_signals(&mut self) {
        while let Some(caught) = self.signals.next() {
            if caught.signal == CHLD {
                continue;
            }
            let to = if self.pid > 0 { self.pid } else { self.runtime };
            if to > 0 && !self.children.has_ended(to) {
                message::debug(format_args!("forward signal {} to {to}", caught.signal));
                send_signal(to, caught.signal);
            }
        }
        self.children.reap();
    }

    /// Reads `stream` once and hands it on.
    pub(super) fn copy(&mut self, stream: Stream) {
        let Some((before, bytes)) = self.output.read(stream, &self.poll) else { return };
        for bytes in [&before, bytes] {
            if !bytes.is_empty() {
                self.logs.write(stream, bytes);
                self.clients.output(stream, bytes, &self.poll);
            }
        }
    }

    #[inline(never)]
    fn take_orders(&mut self) {
        let Some((fifo, lines)) = &mut self.fifo else { return };
        let mut buffer = [0u8; 1024];
        let mut orders = Vec::new();
        if let Ok(len) = fifo.read(&mut buffer) {
            lines.push(&buffer[..len], |order| orders.push(order));
        }
        for order in orders {
            match order {
                Order::Resize { rows, columns } => {
                    if let Err(error) = self.resize_terminal(rows, columns) {
                        message::warning(format_args!("resize: {error}"));
                    }
                }
                Order::ReopenLogs => self.logs.reopen(),
                Order::Wrong(why) => message::warning(why),
            }
        }
    }

    /// A size that comes before the terminal is kept for it.
    pub(super) fn resize_terminal(&mut self, rows: u16, columns: u16) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => stdio::resize(terminal, rows, columns),
            None if self.settled.args.terminal => {
                self.window = Some((rows, columns));
                Ok(())
            }
            None => Err(io::Error::other("there is no terminal")),
        }
    }

    fn accept(&mut self) {
        let Some(attach) = &self.attach else { return };
        loop {
            match attach
                .accept()
                .and_then(|client| client.map(|client| self.clients.add(client, &self.poll)).transpose())
            {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => {
                    // Descriptors or memory are short. Who waits in the backlog is not lost; a loop over it would be.
                    message::warning(format_args!("accept attach client: {error}"));
                    if self.poll.remove(attach).is_ok() {
                        self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                    }
                    break;
                }
            }
        }
        self.clients.set_reading(self.stdin.wants_more(), &self.poll);
    }

    fn hear_client(&mut self, index: u32, ready: Ready) {
        match self.clients.ready(index, ready, &mut self.packet, &self.poll) {
            Said::Nothing => {}
            Said::Input(len) => self.stdin.feed(&self.packet[..len], &self.poll),
            Said::End => {
                let args = self.settled.args;
                if args.stdin && !args.leave_stdin_open {
                    self.stdin.finish(&self.poll);
                }
            }
        }
    }

    /// Takes what has come through the console socket.
    #[inline(never)]
    pub(super) fn take_terminal(&mut self) {
        let Some(console) = &mut self.console else { return };
        let before = self.poll.remove(console.watched());
        let (received, _) = console.receive();
        match received {
            Ok(Some(master)) => {
                self.console = None;
                if let Err(error) = self.use_terminal(master) {
                    message::error(format_args!("use terminal: {error}"));
                }
                return;
            }
            Ok(None) => {}
            Err(error) => message::warning(format_args!("receive terminal: {error}")),
        }
        if before.is_ok()
            && let Err(error) = self.poll.add(console.watched(), Token::of(Kind::Console), Ready::IN)
        {
            message::error(format_args!("watch console socket: {error}"));
        }
    }

    fn use_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        stdio::prepare_terminal(&master)?;
        if let Some((rows, columns)) = self.window.take() {
            stdio::resize(&master, rows, columns)?;
        }
        self.stdin = Stdin::to(master.try_clone()?);
        self.output.set_terminal(master.try_clone()?);
        self.terminal = Some(master);
        Ok(())
    }

    /// Looks whether anybody was killed for want of memory, and writes it down.
    pub(super) fn look_for_oom(&mut self) {
        let Some(watch) = &mut self.oom else { return };
        let alive = self.pid > 0 && !self.children.has_ended(self.pid) && oom::is_alive(self.pid);
        if watch.look(alive).new {
            self.oom_seen = true;
            exit::write_oom_files(self.settled.args);
        }
    }

    /// Calls `f` with the control server, which in turn asks things of this session.
    pub(super) fn with_control(&mut self, f: impl FnOnce(&mut control::Server, &mut Self, &Poll)) {
        let Some(mut control) = self.control.take() else { return };
        let poll = Rc::clone(&self.poll);
        f(&mut control, self, &poll);
        self.control = Some(control);
    }
}

/// Sends `signal` to `pid`, a child that was not waited for, so that the number is still its own.
pub(super) fn send_signal(pid: i32, signal: i32) {
    let target = rustix::process::Pid::from_raw(pid);
    let signal = rustix::process::Signal::from_named_raw(signal);
    if let (Some(target), Some(signal)) = (target, signal)
        && let Err(error) = rustix::process::kill_process(target, signal)
    {
        message::debug(format_args!("signal {pid}: {error}"));
    }
}

/// SIGKILLs the process group that `pid` is in, or only `pid` if that group is not its container's.
pub(super) fn kill_group(pid: i32) {
    let Some(target) = rustix::process::Pid::from_raw(pid) else { return };
    let own = rustix::process::getpgrp();
    match rustix::process::getpgid(Some(target)) {
        Ok(group) if group.as_raw_nonzero().get() > 1 && group != own => {
            // Gone is as good as killed.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        _ => send_signal(pid, KILL),
    }
}
