use proptest::prelude::*;

use super::*;

const T: u64 = 1_795_476_761_482_636_418;

#[test]
fn the_head() {
    assert_eq!(&head(T, Stream::Stdout, Tag::Full), b"2026-11-23T23:32:41.482636418+00:00 stdout F ");
    assert_eq!(&head(0, Stream::Stderr, Tag::Partial), b"1970-01-01T00:00:00.000000000+00:00 stderr P ");
    assert_eq!(Rfc3339(T).to_string(), "2026-11-23T23:32:41.482636418Z");
}

#[test]
fn times() {
    let s = |n: u64| Some(n * NANOS);
    let cases = [
        ("2026-11-23T23:32:41.482636418+00:00", Some(T)),
        ("2026-11-23T23:32:41.482636418Z", Some(T)),
        ("2026-11-24T01:02:41.482636418+01:30", Some(T)),
        ("2026-11-23T15:32:41.4826364189999-08:00", Some(T)),
        ("1970-01-01T00:00:00Z", s(0)),
        ("1970-01-01T01:00:01+01:00", s(1)),
        ("2000-02-29T00:00:00Z", s(951_782_400)),
        ("2100-03-01T00:00:00Z", s(4_107_542_400)),
        ("2026-11-23T23:32:41.5Z", s(1_795_476_761).map(|n| n + 500_000_000)),
        ("1969-12-31T23:59:59Z", None),
        ("2100-02-29T00:00:00Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-11-31T00:00:00Z", None),
        ("2026-11-23T24:00:00Z", None),
        ("2026-11-23T23:32:41", None),
        ("2026-11-23T23:32:41.Z", None),
        ("2026-11-23T23:32:41+0100", None),
        ("2026-11-23T23:32:41+01:00x", None),
        ("9999-12-31T00:00:00Z", None),
        ("٢٠٢٦-11-23", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_time(text), expected, "{text}");
    }
}

#[test]
fn records() {
    let time = "2026-11-23T23:32:41.482636418+00:00";
    let parse = |rest: &str| {
        let line = format!("{time}{rest}");
        Record::parse(line.as_bytes()).map(|r| (r.stream, r.tag, r.content.to_vec()))
    };
    let cases = [
        (" stdout F hello world\n", Ok((Stream::Stdout, Tag::Full, b"hello world".to_vec()))),
        (" stderr P \n", Ok((Stream::Stderr, Tag::Partial, vec![]))),
        (" stderr P", Ok((Stream::Stderr, Tag::Partial, vec![]))),
        (" stdout F  two \n", Ok((Stream::Stdout, Tag::Full, b" two ".to_vec()))),
        (" stdout F:x:y a", Ok((Stream::Stdout, Tag::Full, b"a".to_vec()))),
        (" stdout X a", Err(LogError::Tag)),
        (" stdout  a", Err(LogError::Tag)),
        (" stdin F a", Err(LogError::Stream)),
        (" stdout", Err(LogError::Fields)),
        ("", Err(LogError::Fields)),
    ];
    for (rest, expected) in cases {
        assert_eq!(parse(rest), expected, "{rest:?}");
    }
    assert_eq!(Record::parse(b"yesterday stdout F a"), Err(LogError::Time));
    assert_eq!(Record::parse(b"\xff\xfe stdout F a"), Err(LogError::Time));
    assert_eq!(Record::parse(b""), Err(LogError::Fields));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        time_ns in any::<u64>(),
        out in any::<bool>(),
        full in any::<bool>(),
        content in proptest::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..200),
    ) {
        let stream = if out { Stream::Stdout } else { Stream::Stderr };
        let tag = if full { Tag::Full } else { Tag::Partial };
        let record = Record { time_ns, stream, tag, content: &content };
        let line = record.to_line();
        prop_assert_eq!(Record::parse(&line), Ok(record));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = Record::parse(&bytes);
        let _ = parse_time(&String::from_utf8_lossy(&bytes));
    }
}
