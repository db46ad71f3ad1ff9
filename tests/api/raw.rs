//! HTTP/1.1 by hand: what is sent is what a test says, byte by byte.

use crate::harness::wait::PATIENCE;
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
};

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub version: String,
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header that comes once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice: {self:?}");
        value
    }
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Ends our side of the connection.
    pub fn end(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// Whether `text` comes before the connection ends.
    pub fn says(&mut self, text: &str) -> bool {
        while !String::from_utf8_lossy(&self.read).contains(text) {
            if !self.more() {
                return false;
            }
        }
        true
    }

    /// The next answer, with its body if it has a length.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more(), "ended within a body: {answer:?}");
        }
        answer.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        answer
    }

    /// The next answer without its body: to HEAD, or 100.
    pub fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            assert!(self.more(), "ended within an answer: {:?}", String::from_utf8_lossy(&self.read));
        };
        let text = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = text.trim_end().lines();
        let mut status_line = lines.next().unwrap().split(' ');
        let version = status_line.next().unwrap().to_owned();
        let status = status_line.next().unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        Answer { version, status, headers: lines.map(header).collect(), body: String::new() }
    }

    /// Waits until the server has closed the connection. Nothing else may come.
    pub fn closed(&mut self) {
        while self.more() {}
        assert!(self.read.is_empty(), "{:?}", String::from_utf8_lossy(&self.read));
    }

    /// Reads on; `false`: the connection has ended.
    fn more(&mut self) -> bool {
        let mut bytes = [0; 4_096];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// One request on a connection of its own.
pub fn ask(address: &str, request: &str) -> Answer {
    Connection::open(address).send(request).answer()
}
