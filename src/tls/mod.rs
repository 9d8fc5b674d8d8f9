//! TLS on both sides of the proxy, over rustls with aws-lc-rs.
//!
//! Downstream: [`Certificates`] owns the certificates, chosen by SNI and replaced while connections go on,
//! and the keys of the session tickets; an [`Acceptor`] is the policy of one listener and does the handshake
//! within a limit. Upstream: [`UpstreamTls`] connects to the endpoints of one upstream and verifies their names.
//!
//! It never opens a socket, watches a file, reads the clock or logs: its callers do. It never sets the
//! default provider of the process, so every configuration here names [`provider`].

mod accept;
mod certificates;
mod late_tickets;
mod local;
mod own;
mod pair;
#[cfg(test)]
pub mod testing;
mod upstream;

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use self::accept::{Acceptor, HandshakeError, is_resumed, selected_h2, version};
pub use self::certificates::{CertificateInfo, Certificates, Prepared};
pub use self::late_tickets::{Ending, LateTickets};
pub use self::own::to_own_listener;
pub use self::pair::CertificateError;
pub use self::upstream::{ConnectError, RootsError, UpstreamTls};

const ALPN_H2: &[u8] = b"h2";
const ALPN_H1: &[u8] = b"http/1.1";

/// The one provider of cryptography, shared by every configuration of the process.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| rank(suite.suite()));
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// The lower, the less a suite costs where the processor knows AES and SHA-256; few know SHA-384, which makes a
/// hand-shake dearer by a tenth. None of them can be broken.
fn rank(suite: CipherSuite) -> u8 {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        suite if is_chacha(suite) => 2,
        _ => 1,
    }
}

/// What a client asks for first if its processor does not know AES.
fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// What rustls said, taken out of the I/O error that the stream wraps it in; otherwise the I/O error itself.
fn unwrap_tls(error: io::Error) -> Result<rustls::Error, io::Error> {
    error.downcast::<rustls::Error>()
}
