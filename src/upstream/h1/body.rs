//! The body of a response, as it comes.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::decoder::{Decoder, Piece};
use super::stream::Stream;
use super::upload::UploadError;
use super::{Connection, READ_BYTES_MIN};
use crate::body::BodyError;
use crate::splice::{self, Pipe};

impl Connection {
    pub fn is_uploading(&self) -> bool {
        self.upload.is_some()
    }

    /// Sends on the request beside its response.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(upload) = &mut self.upload else { return Poll::Ready(Ok(())) };
        match ready!(upload.poll(cx, &mut self.stream, &mut self.writing)) {
            Ok(()) => self.end_upload(),
            Err(UploadError::Body(error)) => return Poll::Ready(Err(BodyError::Upload(Arc::new(error)))),
            // What the endpoint has to say may still come.
            Err(UploadError::Io(_)) => {
                self.upload = None;
                self.is_upload_broken = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(Err(error)) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.decoder.decode(&mut self.read) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Piece::Trailers(fields))) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                Ok(None) if self.decoder == Decoder::Ended => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::Peer(Arc::new(error))))),
            }
            let error = match ready!(self.poll_read(cx)) {
                Ok(1..) => continue,
                Ok(0) if self.decoder == Decoder::UntilClose => {
                    self.decoder = Decoder::Ended;
                    self.keeps_alive = false;
                    return Poll::Ready(None);
                }
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Err(error) => error,
            };
            return Poll::Ready(Some(Err(BodyError::Peer(Arc::new(error)))));
        }
    }

    /// Moves data into `pipe`; false if what comes next is to be read.
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<bool, BodyError>> {
        let (Stream::Tcp(socket), Decoder::Length(left)) = (&self.stream, self.decoder) else {
            return Poll::Ready(Ok(false));
        };
        if !self.read.is_empty() || self.upload.is_some() || !splice::is_worth(left) {
            return Poll::Ready(Ok(false));
        }
        let bytes = match ready!(pipe.poll_fill(cx, socket, left)) {
            Ok(bytes @ 1..) => bytes as u64,
            Ok(0) => return Poll::Ready(Err(BodyError::Peer(Arc::new(io::Error::from(io::ErrorKind::UnexpectedEof))))),
            Err(error) => return Poll::Ready(Err(BodyError::Peer(Arc::new(error)))),
        };
        self.decoder = if bytes < left { Decoder::Length(left - bytes) } else { Decoder::Ended };
        self.read_next = READ_BYTES_MIN;
        Poll::Ready(Ok(true))
    }

    pub fn has_ended(&self) -> bool {
        self.decoder == Decoder::Ended
    }

    pub fn size_hint(&self) -> SizeHint {
        self.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
