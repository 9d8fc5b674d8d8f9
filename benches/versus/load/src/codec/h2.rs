//! HTTP/2 as a client speaks it that asks for the same again and again (RFC 9113, RFC 7541).

use anyhow::{Result, bail};

use super::Came;

const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED_OR_PRIORITY: u8 = 0x28;
/// The largest window there is; a stream never uses it up.
const WINDOW: u32 = (1 << 31) - 1;
const WINDOW_DEFAULT: u32 = (1 << 16) - 1;
/// What the connection may take before its window is opened again.
const WINDOW_STEP: u32 = 1 << 29;
/// `:status: 200` in the static table of RFC 7541.
const STATUS_200: u8 = 0x88;

#[derive(Debug, Default)]
pub struct H2 {
    head: Vec<u8>,
    /// Of the frame whose head has come.
    frame: Option<Frame>,
    /// Its content, unless that is data.
    content: Vec<u8>,
    taken: u32,
    next_stream: u32,
    /// The literal fields beside the path.
    field: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    left: usize,
}

impl H2 {
    /// With what the client says first.
    pub fn new(header: Option<&str>, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let mut settings = vec![0, 4];
        settings.extend_from_slice(&WINDOW.to_be_bytes());
        write_frame(out, SETTINGS, 0, 0, &settings);
        write_frame(out, WINDOW_UPDATE, 0, 0, &(WINDOW - WINDOW_DEFAULT).to_be_bytes());
        let field = header.and_then(|header| header.split_once(": "));
        let field = field.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        Self { next_stream: 1, field, ..Self::default() }
    }

    /// Writes a request and says which stream it has.
    pub fn ask(&mut self, authority: &str, path: &[u8], out: &mut Vec<u8>) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        // `:method: GET`, `:scheme: https`.
        let mut block = vec![0x82, 0x87];
        if stream == 1 {
            // `:authority` with its value, which goes into the table.
            block.push(0x41);
            text(authority.as_bytes(), &mut block);
        } else {
            block.push(0xbe);
        }
        // `:path`, a literal that is not kept.
        block.push(0x04);
        text(path, &mut block);
        if let Some((name, value)) = &self.field {
            block.push(0);
            text(name.as_bytes(), &mut block);
            text(value.as_bytes(), &mut block);
        }
        write_frame(out, HEADERS, END_STREAM | END_HEADERS, stream, &block);
        stream
    }

    pub fn feed(&mut self, mut bytes: &[u8], came: &mut Came) -> Result<()> {
        while !bytes.is_empty() || self.frame.is_some_and(|frame| frame.left == 0) {
            let Some(frame) = &mut self.frame else {
                let taken = bytes.len().min(FRAME_HEAD - self.head.len());
                let (head, rest) = bytes.split_at(taken);
                self.head.extend_from_slice(head);
                bytes = rest;
                if let Ok([a, b, c, kind, flags, stream @ ..]) = <[u8; FRAME_HEAD]>::try_from(self.head.as_slice()) {
                    let left = u32::from_be_bytes([0, a, b, c]) as usize;
                    self.frame = Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), left });
                    self.head.clear();
                }
                continue;
            };
            let taken = bytes.len().min(frame.left);
            let (content, rest) = bytes.split_at(taken);
            bytes = rest;
            frame.left -= taken;
            if frame.kind == DATA {
                self.taken += taken as u32;
            } else {
                self.content.extend_from_slice(content);
            }
            if frame.left == 0 {
                let frame = *frame;
                self.frame = None;
                self.whole(frame, came)?;
                self.content.clear();
            }
        }
        Ok(())
    }

    fn whole(&mut self, frame: Frame, came: &mut Came) -> Result<()> {
        match frame.kind {
            HEADERS if frame.flags & PADDED_OR_PRIORITY != 0 => bail!("a padded head"),
            HEADERS if !self.says_200() => bail!("an answer that does not begin with the status 200"),
            SETTINGS if frame.flags & ACK == 0 => write_frame(&mut came.reply, SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 => write_frame(&mut came.reply, PING, ACK, 0, &self.content),
            RST_STREAM => bail!("stream {} was reset", frame.stream),
            GOAWAY => bail!("the connection was ended"),
            _ => {}
        }
        if self.taken > WINDOW_STEP {
            write_frame(&mut came.reply, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
            came.answered.push(frame.stream);
        }
        Ok(())
    }

    /// The status is the first field; before it the size of the table may change (RFC 7541, section 6.3).
    fn says_200(&self) -> bool {
        self.content.iter().find(|byte| *byte & 0xe0 != 0x20) == Some(&STATUS_200)
    }
}

fn write_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    out.extend_from_slice((content.len() as u32).to_be_bytes().get(1..).unwrap_or_default());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(content);
}

/// A string without Huffman's code (RFC 7541, section 5.2). None is longer than the prefix can say twice over.
fn text(text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(short) if short < 127 => out.push(short),
        _ => out.extend_from_slice(&[127, (text.len() - 127) as u8 & 127]),
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(stream: u32, head: &[u8], content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, SETTINGS, 0, 0, &[]);
        write_frame(&mut out, HEADERS, END_HEADERS, stream, head);
        write_frame(&mut out, DATA, 0, stream, content);
        write_frame(&mut out, DATA, END_STREAM, stream, &[]);
        out
    }

    #[test]
    fn answers_are_counted_however_their_bytes_are_cut() -> Result<()> {
        let mut bytes = response(1, &[STATUS_200], b"abc");
        bytes.extend(response(3, &[0x20, STATUS_200, 0x5f], b""));
        for size in 1..=bytes.len() {
            let (mut h2, mut came) = (H2::default(), Came::default());
            for piece in bytes.chunks(size) {
                h2.feed(piece, &mut came)?;
            }
            assert_eq!(came.answered, [1, 3], "in pieces of {size}");
            assert_eq!(came.reply.len(), 2 * FRAME_HEAD, "each settings are acknowledged");
        }
        Ok(())
    }

    #[test]
    fn another_status_or_a_reset_is_an_error() {
        assert!(H2::default().feed(&response(1, &[0x8d], b""), &mut Came::default()).is_err());
        let mut reset = Vec::new();
        write_frame(&mut reset, RST_STREAM, 0, 1, &[0; 4]);
        assert!(H2::default().feed(&reset, &mut Came::default()).is_err());
    }

    #[test]
    fn the_host_is_named_once_and_then_by_its_place_in_the_table() {
        let mut out = Vec::new();
        let mut h2 = H2::new(None, &mut out);
        out.clear();
        assert_eq!(h2.ask("host", b"/", &mut out), 1);
        assert_eq!(out[FRAME_HEAD..], *b"\x82\x87\x41\x04host\x04\x01/");
        out.clear();
        assert_eq!(h2.ask("host", b"/", &mut out), 3);
        assert_eq!(out[FRAME_HEAD..], *b"\x82\x87\xbe\x04\x01/");
    }
}
