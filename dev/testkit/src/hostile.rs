//! Feeds the harnesses of the fuzz targets without a fuzzer: each seed, and what a few thousand mutations make of it.

use std::path::Path;

use model::harness::Target;

use crate::workspace;

/// Mutations of each target's seeds, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 2000;
const LONGEST: usize = 4096;

/// Runs each target on its seeds (`fuzz/seeds/NAME/`, where inputs that once broke it are too) and on mutations of
/// them, with the words of its dictionary (`fuzz/dictionaries/NAME.dict`). The same every time: the input that breaks
/// a target is printed, to become a seed. Gives the number of inputs.
///
/// # Panics
/// When a target does, or has no seeds.
pub fn feed(targets: &[(&str, Target)]) -> usize {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let mut fed = 0;
    for (name, target) in targets {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "no seeds in fuzz/seeds/{name}");
        let words = words(name);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for input in &seeds {
            run(name, *target, input);
        }
        for _ in 0..cases {
            run(name, *target, &mutated(&seeds, &words, &mut random));
        }
        fed += seeds.len() + cases as usize;
    }
    fed
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = workspace().join("fuzz/seeds").join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("read {}: {error}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The words of a dictionary in libFuzzer's form: `"…"` a line, with `\\`, `\"` and `\xNN`.
fn words(name: &str) -> Vec<Vec<u8>> {
    let path = workspace().join("fuzz/dictionaries").join(format!("{name}.dict"));
    read_words(&std::fs::read_to_string(Path::new(&path)).unwrap_or_default())
}

fn read_words(text: &str) -> Vec<Vec<u8>> {
    let inside = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"'));
    inside.map(unescape).filter(|word| !word.is_empty()).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap_or("00");
                out.push(u8::from_str_radix(digits, 16).unwrap_or(0));
                rest = after;
            }
            (b'\\', [letter, after @ ..]) => {
                out.push(*letter);
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    out
}

fn mutated(seeds: &[Vec<u8>], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(20)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] = random.byte(),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                drop(bytes.splice(at..end, other[from..].iter().copied()));
            }
            6 => {
                const NUMBERS: [&str; 6] =
                    ["0", "-1", "4294967296", "9223372036854775807", "18446744073709551615", "1e999"];
                drop(bytes.splice(at..end, NUMBERS[random.below(NUMBERS.len())].bytes()));
            }
            _ if !words.is_empty() => {
                drop(bytes.splice(at..at, words[random.below(words.len())].iter().copied()));
            }
            _ => bytes.insert(at, random.byte()),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn run(name: &str, target: Target, input: &[u8]) {
    let told = Told { name, input };
    target(input);
    std::mem::forget(told);
}

/// Dropped only when the target panics.
struct Told<'a> {
    name: &'a str,
    input: &'a [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        eprintln!(
            "target {} broke on this, which belongs into fuzz/seeds: {}",
            self.name,
            self.input.escape_ascii()
        );
    }
}

/// Xorshift: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_are_read() {
        let words = read_words("# text\n\"a\\x00b\"\nname=\"no\"\n\"\\\"\\\\\"\n\"\"\n");
        assert_eq!(words, [b"a\0b".to_vec(), b"\"\\".to_vec()]);
    }

    #[test]
    fn mutations_are_the_same_every_time() {
        let make = || {
            let mut random = Random(7);
            (0..50)
                .map(|_| mutated(&[b"seed".to_vec(), vec![]], &[b"word".to_vec()], &mut random))
                .collect::<Vec<_>>()
        };
        assert_eq!(make(), make());
        assert!(make().iter().any(|bytes| bytes.windows(4).any(|four| four == b"word")));
    }
}
