//! `--log-path` and what goes with it: parsing, and the checks whose texts conmon's users know.

use std::path::PathBuf;

use super::Options;
use crate::Error;

/// One `--log-path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A file in the CRI's format.
    File(PathBuf),
    /// The system's journal.
    Journald,
    /// Nowhere.
    None,
    /// The container gets the caller's own descriptors.
    Passthrough,
}

/// Parses `DRIVER:PATH`, `DRIVER:`, a bare driver, `:PATH`, or a bare path. Unlike conmon a path keeps its later
/// colons, and what begins with `/` is a path whatever follows.
///
/// # Errors
/// [`Error::Usage`]: it is empty, the driver is unknown, or a k8s-file has no name.
pub fn parse(text: &str) -> Result<Driver, Error> {
    let usage = |text: String| Err(Error::Usage(text));
    let (driver, path) = match text.split_once(':') {
        Some(("", "")) => return usage("log-path must not be empty".into()),
        Some(("", path)) => return Ok(Driver::File(path.into())),
        Some((driver, _)) if driver.starts_with('/') => return Ok(Driver::File(text.into())),
        Some((driver, path)) => (driver, Some(path)),
        None => (text, None),
    };
    match (driver, path) {
        ("", _) => usage("log-path must not be empty".into()),
        ("k8s-file", None | Some("")) => usage("k8s-file requires a filename".into()),
        ("k8s-file", Some(path)) => Ok(Driver::File(path.into())),
        ("journald", _) => Ok(Driver::Journald),
        ("none" | "null" | "off", _) => Ok(Driver::None),
        ("passthrough", _) => Ok(Driver::Passthrough),
        (path, None) => Ok(Driver::File(path.into())),
        (driver, Some(_)) => usage(format!("No such log driver {driver}")),
    }
}

/// Parses all of `options` that concerns drivers.
///
/// # Errors
/// [`Error::Usage`] with conmon's text.
pub fn parse_all(options: &Options) -> Result<Vec<Driver>, Error> {
    let usage = |text: &str| Err(Error::Usage(text.into()));
    if options.paths.is_empty() {
        return usage("Log driver not provided. Use --log-path");
    }
    let drivers = options.paths.iter().map(|path| parse(path)).collect::<Result<Vec<_>, _>>()?;
    if drivers.contains(&Driver::Journald) {
        if options.cid.len() <= 12 {
            return usage("Container ID must be longer than 12 characters");
        }
        for label in &options.labels {
            check_label(label)?;
        }
    } else {
        if options.tag.is_some() {
            return usage("k8s-file doesn't support --log-tag");
        }
        if !options.labels.is_empty() {
            return usage("k8s-file doesn't support --log-label");
        }
    }
    Ok(drivers)
}

fn check_label(label: &str) -> Result<(), Error> {
    let Some((key, value)) =
        label.split_once('=').filter(|(key, value)| !key.is_empty() && !value.contains('='))
    else {
        return Err(Error::Usage(format!(
            "Container labels must be in format LABEL=VALUE (no equal sign in either): {label}"
        )));
    };
    let known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if !key.bytes().all(known) {
        return Err(Error::Usage(format!(
            "Container label names must contain only uppercase letters, numbers and underscore: {label}"
        )));
    }
    // The journal's protocol has one line a field; a longer form exists, but labels are written verbatim.
    if value.contains('\n') {
        return Err(Error::Usage("Container labels must be in format LABEL=VALUE, on one line".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_paths() {
        let file = |path: &str| Ok(Driver::File(path.into()));
        let cases = [
            ("k8s-file:/a/b", file("/a/b")),
            ("k8s-file:/a:b", file("/a:b")),
            ("/a/b", file("/a/b")),
            ("/a:b", file("/a:b")),
            ("a.log", file("a.log")),
            (":journald", file("journald")),
            ("journald", Ok(Driver::Journald)),
            ("journald:", Ok(Driver::Journald)),
            ("none", Ok(Driver::None)),
            ("none:", Ok(Driver::None)),
            ("off", Ok(Driver::None)),
            ("null:/x", Ok(Driver::None)),
            ("passthrough", Ok(Driver::Passthrough)),
            ("passthrough:", Ok(Driver::Passthrough)),
            ("", Err("log-path must not be empty")),
            (":", Err("log-path must not be empty")),
            ("k8s-file", Err("k8s-file requires a filename")),
            ("k8s-file:", Err("k8s-file requires a filename")),
            ("json-file:/a", Err("No such log driver json-file")),
            ("syslog:", Err("No such log driver syslog")),
        ];
        for (text, expected) in cases {
            let got = parse(text).map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn what_goes_together() {
        let base = Options { cid: "0123456789abc".into(), ..Options::default() };
        let journald = || vec!["journald".to_owned()];
        let file = || vec!["/x".to_owned()];
        let cases = [
            (Options { ..base.clone() }, "Log driver not provided. Use --log-path"),
            (
                Options { paths: journald(), cid: "0123456789ab".into(), ..base.clone() },
                "Container ID must be longer than 12 characters",
            ),
            (
                Options { paths: file(), tag: Some("t".into()), ..base.clone() },
                "k8s-file doesn't support --log-tag",
            ),
            (
                Options { paths: file(), labels: vec!["A=b".into()], ..base.clone() },
                "k8s-file doesn't support --log-label",
            ),
            (
                Options { paths: journald(), labels: vec!["A".into()], ..base.clone() },
                "Container labels must be in format LABEL=VALUE",
            ),
            (
                Options { paths: journald(), labels: vec!["A=b=c".into()], ..base.clone() },
                "Container labels must be in format LABEL=VALUE",
            ),
            (
                Options { paths: journald(), labels: vec!["a=b".into()], ..base.clone() },
                "Container label names must contain only uppercase letters, numbers and underscore",
            ),
        ];
        for (options, text) in cases {
            let error = parse_all(&options).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error:?} for {text:?}");
        }
        let both = vec!["journald".to_owned(), "/x".to_owned()];
        let good = Options { paths: both, tag: Some("t".into()), labels: vec!["A_1=b".into()], ..base };
        assert_eq!(parse_all(&good).unwrap(), [Driver::Journald, Driver::File("/x".into())]);
    }
}
