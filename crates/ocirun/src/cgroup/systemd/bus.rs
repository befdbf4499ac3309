//! A connection to systemd: signing in, calls, and the signals that come meanwhile.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::wire::{Decoder, Encoder, Value};
use super::{Error, MANAGER, PATIENCE};

const PRIVATE: &str = "/run/systemd/private";
const SYSTEM: &str = "/run/dbus/system_bus_socket";
const DESTINATION: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";

/// Most bytes of a message. systemd's are small.
const MESSAGE_BYTES: usize = 1 << 20;
/// Most signals that are kept while an answer is waited for.
const SIGNALS: usize = 4096;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Numbers of header fields.
const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) message: String,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    address: String,
    serial: u32,
    /// Whether a bus is between, which wants names and matches.
    broker: bool,
    signals: VecDeque<Message>,
}

#[derive(Debug)]
struct Message {
    kind: u8,
    member: String,
    error: String,
    reply_to: u32,
    body: Vec<Value>,
}

impl Bus {
    /// Connects to the system's systemd, or to the user's.
    pub(super) fn connect(user: bool) -> Result<Self, Error> {
        if user {
            return Self::open(&user_address()?, true);
        }
        // systemd's own socket is there before the bus is, and only root may use it.
        Self::open(PRIVATE, false).or_else(|_| Self::open(SYSTEM, true))
    }

    /// Connects to the socket at `address` and signs in.
    pub(super) fn open(address: &str, broker: bool) -> Result<Self, Error> {
        let failed = |op, cause: &dyn std::fmt::Display| Error::Bus {
            op,
            address: address.to_owned(),
            cause: cause.to_string(),
        };
        let stream = match address.strip_prefix('@') {
            Some(name) => {
                use std::os::linux::net::SocketAddrExt as _;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name);
                address.and_then(|address| UnixStream::connect_addr(&address))
            }
            None => UnixStream::connect(address),
        };
        let stream = stream.map_err(|e| failed("connect to", &e))?;
        let patience = Some(PATIENCE);
        stream
            .set_read_timeout(patience)
            .and_then(|()| stream.set_write_timeout(patience))
            .map_err(|e| failed("set up connection to", &e))?;
        let mut bus =
            Self { stream, address: address.to_owned(), serial: 0, broker, signals: VecDeque::new() };
        bus.sign_in().map_err(|e| failed("sign in to", &e))?;
        if broker {
            bus.call_at(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "Hello",
                &[],
            )?
            .map_err(|failure| failed("sign in to", &failure.message))?;
        }
        Ok(bus)
    }

    /// Asks for the manager's signals. Jobs that are begun afterwards are told of.
    pub(super) fn subscribe(&mut self) -> Result<(), Error> {
        if self.broker {
            let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
            let arguments = [Value::Str(rule)];
            self.call_at(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "AddMatch",
                &arguments,
            )?
            .map_err(|failure| self.failed("subscribe at", &failure.message))?;
        }
        match self.call(MANAGER, "Subscribe", &[])? {
            Err(failure) if failure.name != "org.freedesktop.systemd1.AlreadySubscribed" => {
                Err(self.failed("subscribe at", &failure.message))
            }
            _ => Ok(()),
        }
    }

    /// Calls a method of the manager.
    pub(super) fn call(
        &mut self,
        interface: &str,
        method: &str,
        arguments: &[Value],
    ) -> Result<Result<Vec<Value>, Failure>, Error> {
        self.call_at(DESTINATION, OBJECT, interface, method, arguments)
    }

    /// The next signal of that name, or one that came already.
    pub(super) fn signal(&mut self, member: &str, deadline: Instant) -> Result<Vec<Value>, Error> {
        loop {
            while let Some(signal) = self.signals.pop_front() {
                if signal.member == member {
                    return Ok(signal.body);
                }
            }
            let message = self.receive(deadline)?;
            self.keep(message)?;
        }
    }

    fn call_at(
        &mut self,
        destination: &str,
        object: &str,
        interface: &str,
        method: &str,
        arguments: &[Value],
    ) -> Result<Result<Vec<Value>, Failure>, Error> {
        self.serial += 1;
        let serial = self.serial;
        let message = method_call(serial, destination, object, interface, method, arguments);
        self.stream.write_all(&message).map_err(|e| self.failed("write to", &e))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                METHOD_RETURN if message.reply_to == serial => return Ok(Ok(message.body)),
                ERROR if message.reply_to == serial => {
                    let text = match message.body.into_iter().next() {
                        Some(Value::Str(text)) => text,
                        _ => String::new(),
                    };
                    return Ok(Err(Failure { name: message.error, message: text }));
                }
                _ => self.keep(message)?,
            }
        }
    }

    fn keep(&mut self, message: Message) -> Result<(), Error> {
        if message.kind == SIGNAL {
            if self.signals.len() >= SIGNALS {
                return Err(self.failed("read from", &"too many signals"));
            }
            self.signals.push_back(message);
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Error> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).map_err(|e| self.failed("read from", &e))?;
        let mut bytes = vec![0; 16];
        self.stream.read_exact(&mut bytes).map_err(|e| self.failed("read from", &e))?;
        let (start, body) =
            lengths(&bytes).ok_or_else(|| self.failed("read from", &"not a message of D-Bus"))?;
        bytes.resize(start + body, 0);
        self.stream.read_exact(&mut bytes[16..]).map_err(|e| self.failed("read from", &e))?;
        parse(&bytes, start).ok_or_else(|| self.failed("read from", &"not a message of D-Bus"))
    }

    /// D-Bus specification, "Authentication Protocol": EXTERNAL, with the uid that the socket shows too.
    ///
    /// All in one write, as systemd's own client does: what systemd reads together with a late BEGIN, such as our first
    /// message, lies in its buffer until something else comes.
    fn sign_in(&mut self) -> std::io::Result<()> {
        let uid = crate::rights::outer_uid().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK ") {
            let answer = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(std::io::Error::other(format!("answered {answer:?}")));
        }
        Ok(())
    }

    fn failed(&self, op: &'static str, cause: &dyn std::fmt::Display) -> Error {
        Error::Bus { op, address: self.address.clone(), cause: cause.to_string() }
    }
}

fn method_call(
    serial: u32,
    destination: &str,
    object: &str,
    interface: &str,
    method: &str,
    arguments: &[Value],
) -> Vec<u8> {
    let mut body = Encoder::default();
    arguments.iter().for_each(|argument| body.value(argument));
    let field = |number, value| Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))]);
    let text = |value: &str| Value::Str(value.to_owned());
    let mut fields = vec![
        field(FIELD_PATH, Value::Path(object.to_owned())),
        field(FIELD_INTERFACE, text(interface)),
        field(FIELD_MEMBER, text(method)),
        field(FIELD_DESTINATION, text(destination)),
    ];
    if !arguments.is_empty() {
        let signature = arguments.iter().map(Value::signature).collect();
        fields.push(field(FIELD_SIGNATURE, Value::Signature(signature)));
    }
    let mut message = Encoder { bytes: vec![b'l', METHOD_CALL, 0, 1] };
    message.value(&Value::U32(u32::try_from(body.bytes.len()).unwrap_or(0)));
    message.value(&Value::U32(serial));
    message.value(&Value::Array("(yv)", fields));
    message.align(8);
    message.bytes.extend(body.bytes);
    message.bytes
}

/// Where the body of a message begins and how long it is, from its first 16 bytes.
fn lengths(header: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.and_then(|bytes| usize::try_from(u32::from_le_bytes(bytes)).ok())
    };
    let (body, fields) = (word(4)?, word(12)?);
    let good = header.first() == Some(&b'l') && body <= MESSAGE_BYTES && fields <= MESSAGE_BYTES;
    good.then(|| ((16 + fields).next_multiple_of(8), body))
}

/// Reads a message, for the fuzz target.
pub(crate) fn look_at(bytes: &[u8]) {
    if let Some((start, body)) = lengths(bytes)
        && let Some(message) = bytes.get(..start + body)
    {
        // Whatever comes of it is as good.
        let _ = parse(message, start);
    }
}

fn parse(bytes: &[u8], body: usize) -> Option<Message> {
    let fields = Decoder::new(bytes, 12).values("a(yv)")?;
    let Some(Value::List(fields)) = fields.first() else { return None };
    let get = |wanted: u8| {
        fields.iter().find_map(|field| match field {
            Value::Struct(pair) => match pair.as_slice() {
                [Value::Byte(number), Value::Variant(value)] if *number == wanted => Some(value.as_ref()),
                _ => None,
            },
            _ => None,
        })
    };
    let text = |wanted| match get(wanted) {
        Some(Value::Str(text) | Value::Path(text) | Value::Signature(text)) => text.clone(),
        _ => String::new(),
    };
    let reply_to = match get(FIELD_REPLY_SERIAL) {
        Some(Value::U32(serial)) => *serial,
        _ => 0,
    };
    Some(Message {
        kind: bytes[1],
        member: text(FIELD_MEMBER),
        error: text(FIELD_ERROR_NAME),
        reply_to,
        // A body starts aligned, so that its own alignment counts from there.
        body: Decoder::new(&bytes[body..], 0).values(&text(FIELD_SIGNATURE))?,
    })
}

/// `unix:path=…` or `unix:abstract=…` of the session's address, else the usual place.
fn user_address() -> Result<String, Error> {
    let session = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let part = session.split(';').find_map(|one| one.strip_prefix("unix:"));
    let option = part.and_then(|options| {
        options.split(',').find_map(|option| match option.split_once('=')? {
            ("path", path) => Some(path.to_owned()),
            ("abstract", name) => Some(format!("@{name}")),
            _ => None,
        })
    });
    let runtime = || std::env::var("XDG_RUNTIME_DIR").ok().map(|directory| format!("{directory}/bus"));
    option.or_else(runtime).ok_or_else(|| Error::Bus {
        op: "find",
        address: "the user's bus".to_owned(),
        cause: "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set".to_owned(),
    })
}
