//! Attach clients over real sockets.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use monitor::Stream::{Stderr, Stdout};
use monitor::attach::{Clients, PATIENCE, Said};
use monitor::poll::{Kind, Poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use sys::socket::{self, Blocking};

/// The clients, and the loop that serves them.
struct Loop {
    clients: Clients,
    poll: Poll,
    buffer: Vec<u8>,
    said: Vec<u8>,
    ends: u32,
}

impl Loop {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        Self { clients: Clients::default(), poll, buffer: vec![0; 32_768], said: Vec::new(), ends: 0 }
    }

    /// A new client's own end.
    fn client(&mut self) -> OwnedFd {
        let (ours, theirs) = socket::pair(socket::Kind::SeqPacket, Blocking::Yes).unwrap();
        self.clients.add(theirs, &self.poll).unwrap();
        ours
    }

    /// Serves what is ready now. Answers how many events there were.
    fn turn(&mut self) -> usize {
        let mut ready = Vec::new();
        self.poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        for (token, flags) in &ready {
            assert_eq!(token.kind, Kind::AttachClient);
            match self.clients.ready(token.index, *flags, &mut self.buffer, &self.poll) {
                Said::Nothing => {}
                Said::Input(len) => self.said.extend(&self.buffer[..len]),
                Said::End => self.ends += 1,
            }
        }
        ready.len()
    }

    fn settle(&mut self) {
        while self.turn() > 0 {}
    }
}

/// Receives all packets that are there, without waiting.
fn received(client: &OwnedFd) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut buffer = vec![0; 10_000];
    while let Ok((_, len)) = recv(client, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
        if len == 0 {
            break;
        }
        packets.push(buffer[..len].to_vec());
    }
    packets
}

fn ended(client: &OwnedFd) -> bool {
    matches!(recv(client, [0; 10].as_mut_slice(), RecvFlags::DONTWAIT), Ok((_, 0)))
}

#[test]
fn packets_have_their_stream_and_size() {
    let mut server = Loop::new();
    let (one, two) = (server.client(), server.client());
    server.clients.output(Stdout, b"hello", &server.poll);
    server.clients.output(Stderr, &[7; 20_000], &server.poll);
    for client in [&one, &two] {
        let packets = received(client);
        assert_eq!(packets[0], b"\x02hello");
        assert_eq!(
            packets[1..].iter().map(Vec::len).collect::<Vec<_>>(),
            [8193, 8193, 20_000 - 2 * 8192 + 1]
        );
        assert!(packets[1..].iter().all(|packet| packet[0] == 3));
    }
    let late = server.client();
    assert!(received(&late).is_empty(), "nothing is replayed");
}

#[test]
fn input_ends_and_hang_ups() {
    let mut server = Loop::new();
    let (one, two) = (server.client(), server.client());
    send(&one, b"from one", SendFlags::empty()).unwrap();
    send(&two, &[b'x'; 40_000], SendFlags::empty()).unwrap();
    server.settle();
    assert!(server.said.starts_with(b"from one"));
    assert_eq!(server.said.len(), 8 + 32_768, "a packet that is too long is cut");
    shutdown(&one, Shutdown::Write).unwrap();
    server.settle();
    assert_eq!(server.ends, 1);
    server.clients.output(Stdout, b"still", &server.poll);
    assert_eq!(received(&one), [b"\x02still"], "it may still read");
    drop(two);
    server.settle();
    assert_eq!(server.ends, 2);
    drop(one);
    server.settle();
    assert_eq!(server.ends, 2, "an end is told of once");
    assert!(server.clients.is_empty());
}

#[test]
fn a_full_stdin_leaves_input_with_the_clients() {
    let mut server = Loop::new();
    let (stays, goes) = (server.client(), server.client());
    server.clients.set_reading(false, &server.poll);
    let late = server.client();
    for client in [&stays, &goes, &late] {
        send(client, b"abc", SendFlags::empty()).unwrap();
    }
    drop(goes);
    server.settle();
    assert_eq!((server.said.len(), server.ends), (0, 0));
    // Output to one that has gone does not lose what it sent.
    server.clients.output(Stdout, b"x", &server.poll);
    server.settle();
    server.clients.set_reading(true, &server.poll);
    server.settle();
    assert_eq!((server.said.as_slice(), server.ends), (b"abcabcabc".as_slice(), 1));
    assert_eq!(received(&stays), [b"\x02x"]);
}

#[test]
fn input_of_a_client_that_left_output_unread_counts() {
    let mut server = Loop::new();
    let client = server.client();
    server.clients.output(Stdout, b"unread", &server.poll);
    send(&client, b"quit\n", SendFlags::empty()).unwrap();
    drop(client);
    server.settle();
    assert_eq!((server.said.as_slice(), server.ends), (b"quit\n".as_slice(), 1));
    assert!(server.clients.is_empty());
}

#[test]
fn a_slow_client_loses_nothing() {
    let mut server = Loop::new();
    let (slow, quick) = (server.client(), server.client());
    let mut sent = Vec::new();
    let mut quickly = Vec::new();
    let mut number = 0u32;
    while !server.clients.congested() {
        let chunk: Vec<u8> = (number..number + 10_000).flat_map(u32::to_le_bytes).collect();
        number += 10_000;
        let stream = if number.is_multiple_of(3) { Stderr } else { Stdout };
        server.clients.output(stream, &chunk, &server.poll);
        quickly.extend(received(&quick));
        server.settle();
        sent.extend(chunk);
    }
    assert!(sent.len() >= 1 << 20);
    assert!(server.clients.wake_in().is_some());
    let mut slowly = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while slowly.iter().map(|packet: &Vec<u8>| packet.len() - 1).sum::<usize>() < sent.len() {
        assert!(Instant::now() < deadline);
        slowly.extend(received(&slow));
        quickly.extend(received(&quick));
        server.turn();
    }
    assert!(!server.clients.congested());
    assert_eq!(server.clients.wake_in(), None);
    for packets in [slowly, quickly] {
        assert!(packets.iter().all(|packet| packet.len() <= 8193));
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| &packet[1..]).copied().collect();
        assert!(bytes == sent, "output is lost or changed");
    }
}

#[test]
fn a_client_that_never_reads_is_dropped_alone() {
    let mut server = Loop::new();
    let (dead, alive) = (server.client(), server.client());
    let chunk = vec![b'x'; 65_536];
    let mut count = 0;
    while !server.clients.congested() {
        server.clients.output(Stdout, &chunk, &server.poll);
        count += received(&alive).iter().map(|packet| packet.len() - 1).sum::<usize>();
    }
    let wait = server.clients.wake_in().unwrap();
    assert!(wait <= PATIENCE);
    let begun = Instant::now();
    server.clients.tick(&server.poll);
    assert!(server.clients.congested(), "not before its time");
    while let Some(wait) = server.clients.wake_in() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(wait);
        server.clients.tick(&server.poll);
    }
    server.settle();
    assert_eq!(server.ends, 1);
    assert!(!server.clients.congested() && !server.clients.is_empty());
    server.clients.output(Stdout, b"end", &server.poll);
    count += received(&alive).iter().map(|packet| packet.len() - 1).sum::<usize>();
    assert!(count > 1 << 20);
    let packets = received(&dead);
    assert!(!packets.is_empty() && ended(&dead), "what its socket held is still there, then its end");
}

#[test]
fn closing_gives_the_last_output_to_who_reads() {
    let mut server = Loop::new();
    let (reads, dead) = (server.client(), server.client());
    let chunk = vec![b'x'; 65_536];
    for _ in 0..10 {
        server.clients.output(Stdout, &chunk, &server.poll);
    }
    let reader = std::thread::spawn(move || {
        let mut count = 0;
        let mut buffer = vec![0; 10_000];
        while let Ok((_, len)) = recv(reads.as_fd(), buffer.as_mut_slice(), RecvFlags::empty()) {
            if len == 0 {
                break;
            }
            count += len - 1;
        }
        count
    });
    server.clients.close(&server.poll);
    assert!(server.clients.is_empty());
    assert_eq!(reader.join().unwrap(), 10 * chunk.len());
    assert!(!received(&dead).is_empty() && ended(&dead));
}
