//! Bytes to and from a peer, with TLS or without, and never waiting once they flow.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme};

use crate::arguments::{Handshake, Protocol};

/// A bench has one host; each connection that ends leaves a ticket for the next.
const SESSIONS: usize = 1024;

#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    out: Vec<u8>,
}

impl Stream {
    /// Connects. The hand-shake, if there is one, goes on as bytes come.
    pub fn connect(address: SocketAddr, config: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let tcp = TcpStream::connect(address).context("cannot connect")?;
        tcp.set_nodelay(true)?;
        let name = ServerName::IpAddress(address.ip().into());
        let tls = config.map(|config| ClientConnection::new(Arc::clone(config), name)).transpose()?;
        Ok(Self { tcp, tls: tls.map(Box::new), out: Vec::new() })
    }

    /// Waits for the end of the hand-shake.
    pub fn shake_hands(&mut self) -> Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.is_handshaking() {
                tls.complete_io(&mut self.tcp).context("the hand-shake failed")?;
            }
        }
        Ok(())
    }

    pub fn stop_waiting(&self) -> io::Result<()> {
        self.tcp.set_nonblocking(true)
    }

    /// Whether the session went on from an earlier one; nothing while that is open.
    pub fn is_resumed(&self) -> Option<bool> {
        Some(self.tls.as_ref()?.handshake_kind()? == HandshakeKind::Resumed)
    }

    /// Sends these bytes, or keeps what does not go out for the next flush.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None => self.out.extend_from_slice(bytes),
        }
        self.flush()
    }

    /// A peer that has closed is found by the next read.
    pub fn flush(&mut self) -> Result<()> {
        match self.write() {
            Err(error) if error.kind() == ErrorKind::WouldBlock || is_end(&error) => Ok(()),
            written => written.context("cannot send"),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.tcp)?;
            }
        }
        while !self.out.is_empty() {
            let written = self.tcp.write(&self.out)?;
            self.out.drain(..written);
        }
        Ok(())
    }

    /// Reads once, plain bytes in the end.
    pub fn receive(&mut self, into: &mut [u8]) -> Result<Received> {
        let Some(tls) = &mut self.tls else { return received(self.tcp.read(into)) };
        match tls.reader().read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return received(read),
        }
        match tls.read_tls(&mut self.tcp) {
            Ok(0) => return Ok(Received::End),
            Err(error) => return received(Err(error)),
            Ok(_) => {
                tls.process_new_packets()?;
            }
        }
        // A hand-shake answers what it reads.
        self.flush()?;
        self.receive(into)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Bytes(usize),
    NothingYet,
    End,
}

fn received(read: io::Result<usize>) -> Result<Received> {
    match read {
        Ok(0) => Ok(Received::End),
        Ok(count) => Ok(Received::Bytes(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::NothingYet),
        Err(error) if is_end(&error) => Ok(Received::End),
        Err(error) => Err(error).context("cannot receive"),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
}

/// TLS 1.3, with sessions to go on from unless each hand-shake is to be a full one.
pub fn config(protocol: Protocol, fresh: Option<Handshake>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unnamed(provider)))
        .with_no_client_auth();
    config.resumption = match fresh {
        Some(Handshake::Resumed) => Resumption::in_memory_sessions(SESSIONS),
        Some(Handshake::Full) | None => Resumption::disabled(),
    };
    let alpn: &[u8] = if protocol == Protocol::H2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

/// Checks signatures, and no names: the certificate is of the bench's own making.
#[derive(Debug)]
struct Unnamed(Arc<CryptoProvider>);

impl ServerCertVerifier for Unnamed {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
