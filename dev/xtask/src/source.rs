//! The project's source files, and a reader of Rust that knows comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::root;

/// A file of the project.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root, with slashes.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Of the same length, with the insides of comments and strings blanked.
    pub(crate) code: String,
}

/// A test function.
#[derive(Debug)]
pub(crate) struct Test {
    /// The function's name.
    pub(crate) name: String,
    /// The line of its attribute, from 1.
    pub(crate) line: usize,
    /// Its body, comments and strings blanked.
    pub(crate) body: String,
    /// Its attributes.
    pub(crate) attributes: String,
}

/// All Rust files under crates/ and dev/, sorted.
pub(crate) fn rust() -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for dir in ["crates", "dev"] {
        walk(&root().join(dir), &mut paths)?;
    }
    paths.sort();
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs"))
        .map(|path| read(path))
        .collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
        if !path.is_dir() {
            found.push(path);
        } else if path.file_name().is_none_or(|name| name != "target") {
            walk(&path, found)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let code = blank(&text);
    let path = path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned();
    Ok(Source { path, text, code })
}

/// Replaces the insides of comments, strings and character literals by spaces. Lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => find(bytes, at + 2, b"*/") + 2,
            b'r' if raw_hashes(bytes, at).is_some() => {
                let hashes = raw_hashes(bytes, at).unwrap_or(0);
                let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
                find(bytes, at + hashes + 2, &close) + close.len()
            }
            b'"' => quoted(bytes, at + 1, b'"'),
            b'\'' if is_letter(bytes, at) => quoted(bytes, at + 1, b'\''),
            _ => {
                at += 1;
                continue;
            }
        }
        .min(bytes.len());
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    let tail = bytes.get(from..).unwrap_or_default();
    tail.windows(needle.len()).position(|window| window == needle).map_or(bytes.len(), |at| from + at)
}

fn raw_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    if before.is_some_and(|byte| (byte.is_ascii_alphanumeric() && byte != b'b') || byte == b'_') {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn quoted(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A character literal, as opposed to a lifetime.
fn is_letter(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at + 1) {
        Some(b'\\') => true,
        Some(byte) if byte.is_ascii() => bytes.get(at + 2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

impl Source {
    /// The number of the line that holds a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Where a word stands in the code, whole words only.
    pub(crate) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            !part(self.code[..at].chars().next_back()) && !part(self.code[at + word.len()..].chars().next())
        })
    }

    /// The file's test functions: those with an attribute `#[test]` or `#[….::test…]`.
    pub(crate) fn tests(&self) -> Vec<Test> {
        let starts = self.code.match_indices("#[").map(|(at, _)| at);
        starts.filter(|&at| is_test(&self.code[at + 2..])).filter_map(|at| self.test(at)).collect()
    }

    fn test(&self, at: usize) -> Option<Test> {
        let name_at = at + self.code[at..].find("fn ")?;
        let (name, body) = self.function(name_at)?;
        let attributes = self.code[at..name_at].to_owned();
        Some(Test { name, line: self.line(at), body: body.to_owned(), attributes })
    }

    /// The name and body of every function that has a body.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (String, &str)> {
        self.words("fn").filter_map(|at| self.function(at))
    }

    /// The function whose `fn` stands at a byte.
    fn function(&self, at: usize) -> Option<(String, &str)> {
        let tail = &self.code[at..];
        let name: String =
            tail[2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let open = tail.find(['{', ';']).filter(|&open| tail[open..].starts_with('{'))?;
        let mut depth = 0_usize;
        let close = tail[open..].char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(open + at)
        })?;
        Some((name, &tail[open..close]))
    }
}

fn is_test(attribute: &str) -> bool {
    let path: String =
        attribute.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
    path.rsplit("::").next() == Some("test")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "x.rs".to_owned(), text: text.to_owned(), code: blank(text) }
    }

    #[test]
    fn comments_and_strings_are_blanked() {
        let text = "a // unsafe\n\"uns\\\"afe\" 'u' r#\"un\"safe\"# /* unsafe */ &'static unsafe";
        let source = source(text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.words("unsafe").count(), 1);
        assert!(source.code.contains("'static"));
    }

    #[test]
    fn tests_are_found_with_their_bodies() {
        let text = "#[tokio::test(x = 1)]\nasync fn one() { if a { assert!(b) } }\n#[test]\n#[should_panic]\nfn two() {}\n#[cfg(test)]\nmod x {}";
        let tests = source(text).tests();
        let names: Vec<_> = tests.iter().map(|test| (test.name.as_str(), test.line)).collect();
        assert_eq!(names, [("one", 1), ("two", 3)]);
        assert!(tests[0].body.contains("assert!(b)") && tests[1].attributes.contains("should_panic"));
    }
}
