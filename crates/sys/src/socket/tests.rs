use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::durable::tests::TempDir;
use crate::{poll, proc};

#[test]
fn long_paths_are_bound_and_connected() {
    let dir = TempDir::new("socket");
    for (name, kind) in [("a", Kind::SeqPacket), ("b", Kind::Stream)] {
        let path = dir.0.join("d".repeat(120)).join("e".repeat(120)).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = listen(&path, kind, Blocking::No, 0o600).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(accept(&listener, Blocking::Yes).unwrap().is_none());
        let client = connect(&path, kind, Blocking::Yes).unwrap();
        let server = accept(&listener, Blocking::Yes).unwrap().unwrap();
        assert_eq!(send_with_fds(&client, b"hello", &[]).unwrap(), 5);
        let mut buffer = [0; 16];
        let got = recv_with_fds(&server, &mut buffer, 0).unwrap();
        assert_eq!((&buffer[..got.len], got.truncated, got.fds_truncated), (&b"hello"[..], false, false));
        let cred = peer_cred(&server).unwrap();
        assert_eq!(u32::try_from(cred.pid).unwrap(), std::process::id());
        assert_eq!(cred.uid, rustix::process::geteuid().as_raw());
        let error = listen(&path, kind, Blocking::No, 0o600).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EADDRINUSE));
    }
    assert!(connect(dir.0.join("none"), Kind::Stream, Blocking::Yes).unwrap_err().is_gone());
    connect(dir.0.join("n".repeat(200)), Kind::Stream, Blocking::Yes).unwrap_err();
}

#[test]
fn descriptors_travel() {
    let (a, b) = pair(Kind::SeqPacket, Blocking::Yes).unwrap();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    send_with_fds(&a, b"take", &[writer.as_fd()]).unwrap();
    drop(writer);
    let mut buffer = [0; 64];
    let mut got = recv_with_fds(&b, &mut buffer, 4).unwrap();
    assert_eq!((got.len, got.fds.len(), got.fds_truncated), (4, 1, false));
    let fd = got.fds.remove(0);
    assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    std::fs::File::from(fd).write_all(b"through").unwrap();
    let mut text = String::new();
    std::fs::File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

/// Whether the pipe's writers are all closed: no copy of a passed descriptor is left anywhere.
fn closed(reader: &OwnedFd) -> bool {
    poll::readable(reader, Some(std::time::Duration::from_secs(30))).unwrap()
}

#[test]
fn surplus_descriptors_are_closed_and_reported() {
    for (sent, allowed) in [(1, 0), (2, 1), (3, 2), (4, 1), (MAX_FDS, 3)] {
        let (a, b) = pair(Kind::SeqPacket, Blocking::Yes).unwrap();
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let fds = vec![writer.as_fd(); sent];
        send_with_fds(&a, b"x", &fds).unwrap();
        drop(writer);
        let got = recv_with_fds(&b, &mut [0; 8], allowed).unwrap();
        assert_eq!((got.fds.len(), got.fds_truncated), (allowed, true), "{sent} {allowed}");
        drop(got);
        assert!(closed(&reader));
    }
    let (a, _b) = pair(Kind::SeqPacket, Blocking::Yes).unwrap();
    let fds = vec![a.as_fd(); MAX_FDS + 1];
    send_with_fds(&a, b"x", &fds).unwrap_err();
}

#[test]
fn long_messages_are_reported() {
    let (a, b) = pair(Kind::SeqPacket, Blocking::No).unwrap();
    send_with_fds(&a, &[7; 100], &[]).unwrap();
    let got = recv_with_fds(&b, &mut [0; 10], 0).unwrap();
    assert_eq!((got.len, got.truncated), (10, true));
    assert_eq!(recv_with_fds(&b, &mut [0; 10], 0).unwrap_err().errno(), Some(libc::EAGAIN));
    drop(a);
    assert_eq!(recv_with_fds(&b, &mut [0; 10], 0).unwrap().len, 0);
    assert_eq!(send_with_fds(&b, b"x", &[]).unwrap_err().errno(), Some(libc::EPIPE));
}

#[test]
fn nothing_leaks() {
    let before = proc::open_fds().unwrap().len();
    let dir = TempDir::new("socket-leak");
    let path = dir.0.join("s".repeat(90));
    for _ in 0..20 {
        let listener = listen(&path, Kind::Stream, Blocking::Yes, 0o600).unwrap();
        drop(connect(&path, Kind::Stream, Blocking::Yes).unwrap());
        drop(accept(&listener, Blocking::No).unwrap());
        crate::durable::remove(&path).unwrap();
    }
    // Tests in other threads of this process open a few too.
    assert!(proc::open_fds().unwrap().len() < before + 20);
}
