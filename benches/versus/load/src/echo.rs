//! The origin of uploads and messages: `POST` is answered with the count and the sum of the bytes that came, a
//! WebSocket message with itself, and `GET /requests` with how many requests there were, this one included.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, bail};

use crate::codec::{frame, unmasked, written};
use crate::request::WEBSOCKET_ACCEPT;

const READ: usize = 16 * 1024;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// What the head of a request says that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    length: Option<usize>,
    is_chunked: bool,
    is_upgrade: bool,
}

pub fn serve(address: SocketAddr) -> Result<()> {
    for stream in TcpListener::bind(address)?.incoming() {
        let stream = stream?;
        // A peer that leaves in the middle is no failure of the origin; the bench looks at what its clients got.
        thread::Builder::new().stack_size(256 * 1024).spawn(move || drop(converse(&stream)))?;
    }
    Ok(())
}

fn converse(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(READ, stream);
    loop {
        let Some(head) = head(&mut reader)? else { return Ok(()) };
        let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
        if head.is_upgrade {
            return messages(reader, stream);
        }
        let body = body(&head, &mut reader)?;
        let answer = body.map_or_else(|| count.to_string(), |body| format!("{} {:016x}", body.len(), sum(&body)));
        let length = answer.len();
        let mut writer = stream;
        writer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}").as_bytes())?;
    }
}

fn head(reader: &mut impl BufRead) -> Result<Option<Head>> {
    let mut head = Head::default();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            return Ok(Some(head));
        }
        if let Some((name, value)) = line.split_once(':') {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = Some(value.parse()?),
                "transfer-encoding" => head.is_chunked = true,
                "upgrade" => head.is_upgrade = value.eq_ignore_ascii_case("websocket"),
                _ => {}
            }
        }
        line.clear();
    }
    Ok(None)
}

fn body(head: &Head, reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    if head.is_chunked {
        return chunked(reader).map(Some);
    }
    let Some(length) = head.length.filter(|length| *length > 0) else { return Ok(None) };
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

fn chunked(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16)?;
        let before = body.len() as u64;
        reader.take(size).read_to_end(&mut body)?;
        let mut end = [0; 2];
        reader.read_exact(&mut end)?;
        if body.len() as u64 - before != size || &end != b"\r\n" {
            bail!("a chunk is not as long as it said");
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Depends on each byte and its place, and costs little.
fn sum(body: &[u8]) -> u64 {
    let words = body.chunks(8).map(|word| word.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)));
    words.fold(0, |sum: u64, word| sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(word))
}

fn messages(mut reader: BufReader<&TcpStream>, mut stream: &TcpStream) -> Result<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    stream.write_all(format!("{head}Sec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    loop {
        let came = reader.fill_buf()?;
        if came.is_empty() {
            return Ok(());
        }
        let count = came.len();
        bytes.extend_from_slice(came);
        reader.consume(count);
        while let Some(message) = frame(&bytes) {
            let Some(mask) = message.mask else { bail!("a client that does not mask") };
            let payload: Vec<u8> = unmasked(message.payload, mask).collect();
            let used = message.used;
            bytes.drain(..used);
            stream.write_all(&written(&payload, false))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_however_it_is_framed() -> Result<()> {
        for text in [
            "POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabcdef",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n",
        ] {
            let mut reader = text.as_bytes();
            let head = head(&mut reader)?.unwrap_or_default();
            assert_eq!(body(&head, &mut reader)?, Some(b"abcdef".to_vec()), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_byte_in_another_place_is_another_sum() {
        assert_eq!(sum(b"\x01\x02"), 0x0201);
        assert_ne!(sum(b"abcdefgh12345678"), sum(b"12345678abcdefgh"));
        assert_ne!(sum(b"abcdefgh"), sum(b"bacdefgh"));
    }
}
