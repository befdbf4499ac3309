//! The D-Bus wire format (D-Bus specification, "Message Protocol"), as far as systemd needs it. Little-endian.

use std::iter::Peekable;
use std::str::Chars;

/// A value of D-Bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `s`
    Str(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a…`: the signature of its elements, and they.
    Array(&'static str, Vec<Self>),
    /// An array that was read, whose elements' signature nobody needs.
    List(Vec<Self>),
    /// `(…)`, and `{…}` when read.
    Struct(Vec<Self>),
    /// `v`
    Variant(Box<Self>),
}

impl Value {
    /// Its type.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".to_owned(),
            Self::Bool(_) => "b".to_owned(),
            Self::I32(_) => "i".to_owned(),
            Self::U32(_) => "u".to_owned(),
            Self::I64(_) => "x".to_owned(),
            Self::U64(_) => "t".to_owned(),
            Self::Str(_) => "s".to_owned(),
            Self::Path(_) => "o".to_owned(),
            Self::Signature(_) => "g".to_owned(),
            Self::Array(element, _) => format!("a{element}"),
            Self::List(_) => "av".to_owned(),
            Self::Struct(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
            Self::Variant(_) => "v".to_owned(),
        }
    }
}

/// Writes values behind each other, aligned from the start of `bytes`.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(v) => self.bytes.push(*v),
            Value::Bool(v) => self.aligned(&u32::from(*v).to_le_bytes()),
            Value::I32(v) => self.aligned(&v.to_le_bytes()),
            Value::U32(v) => self.aligned(&v.to_le_bytes()),
            Value::I64(v) => self.aligned(&v.to_le_bytes()),
            Value::U64(v) => self.aligned(&v.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => {
                self.aligned(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
            Value::Signature(text) => {
                self.bytes.push(u8::try_from(text.len()).unwrap_or(0));
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
            Value::Array(element, values) => self.array(alignment(element), values),
            Value::List(values) => self.array(1, values),
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::Variant(inner) => {
                self.value(&Value::Signature(inner.signature()));
                self.value(inner);
            }
        }
    }

    fn array(&mut self, alignment: usize, values: &[Value]) {
        self.align(4);
        let length_at = self.bytes.len();
        self.bytes.extend([0; 4]);
        // The padding before the first element does not count.
        self.align(alignment);
        let start = self.bytes.len();
        values.iter().for_each(|value| self.value(value));
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(0);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn aligned(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.bytes.extend(bytes);
    }
}

fn alignment(signature: &str) -> usize {
    match signature.bytes().next() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Reads values; nothing for what is cut off or wrong.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Containers in containers that are read.
const DEPTH: u8 = 16;

impl<'a> Decoder<'a> {
    /// `at` is where to begin: alignment counts from the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// All values of `signature`.
    pub(super) fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut types = signature.chars().peekable();
        let mut out = Vec::new();
        while types.peek().is_some() {
            out.push(self.value(&mut types, DEPTH)?);
        }
        Some(out)
    }

    fn value(&mut self, types: &mut Peekable<Chars<'_>>, depth: u8) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        Some(match types.next()? {
            'y' => Value::Byte(self.take::<1>()?[0]),
            'b' => Value::Bool(u32::from_le_bytes(self.take()?) != 0),
            'n' | 'q' => Value::U32(u16::from_le_bytes(self.take()?).into()),
            'i' => Value::I32(i32::from_le_bytes(self.take()?)),
            'u' | 'h' => Value::U32(u32::from_le_bytes(self.take()?)),
            'x' => Value::I64(i64::from_le_bytes(self.take()?)),
            't' | 'd' => Value::U64(u64::from_le_bytes(self.take()?)),
            's' => Value::Str(self.text()?),
            'o' => Value::Path(self.text()?),
            'g' => {
                let length = usize::from(self.take::<1>()?[0]);
                Value::Signature(self.string(length)?)
            }
            'v' => {
                let length = usize::from(self.take::<1>()?[0]);
                let signature = self.string(length)?;
                Value::Variant(Box::new(self.value(&mut signature.chars().peekable(), depth)?))
            }
            'a' => self.list(types, depth)?,
            open @ ('(' | '{') => {
                let close = if open == '(' { ')' } else { '}' };
                self.align(8);
                let mut fields = Vec::new();
                while *types.peek()? != close {
                    fields.push(self.value(types, depth)?);
                }
                types.next();
                Value::Struct(fields)
            }
            _ => return None,
        })
    }

    fn list(&mut self, types: &mut Peekable<Chars<'_>>, depth: u8) -> Option<Value> {
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        let element = one_type(types)?;
        self.align(alignment(&element));
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut values = Vec::new();
        while self.at < end {
            let before = self.at;
            values.push(self.value(&mut element.chars().peekable(), depth)?);
            // An element without a size would never end.
            (self.at > before).then_some(())?;
        }
        Some(Value::List(values))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        self.string(length)
    }

    fn string(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?.to_owned();
        (*self.bytes.get(end)? == 0).then_some(())?;
        self.at = end + 1;
        Some(text)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align(N);
        let bytes = self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*bytes)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }
}

/// The first complete type of `types`.
fn one_type(types: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut out = String::new();
    let mut open = 0u32;
    loop {
        let next = types.next()?;
        out.push(next);
        match next {
            '(' | '{' => open += 1,
            ')' | '}' => open = open.checked_sub(1)?,
            _ => {}
        }
        if open == 0 && next != 'a' {
            return Some(out);
        }
    }
}
