//! Whether a replica that has just been started can serve.
//!
//! It does once it accepts connections and, if its upstream has a health check, has passed it once. Whether it stays
//! healthy is the business of the probes of its pool.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::balance::probe::ProbeError;

/// A refused connect costs nothing, so a new replica is known almost at once.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer costs the replica work, while it has enough to do with its start.
const ANSWER_PAUSE: Duration = Duration::from_millis(200);

/// Sends one probe to an address, within the time limit of its health check.
pub type Check = Rc<dyn Fn(SocketAddr) -> LocalBoxFuture<'static, Result<(), ProbeError>>>;

/// Why a replica is not ready yet.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("it does not accept connections: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// Asks until the answer is good; the error is the last one before the limit.
pub async fn wait(address: SocketAddr, check: Option<&Check>, limit: Duration) -> Result<(), NotReady> {
    let mut last = NotReady::Connect(io::ErrorKind::TimedOut.into());
    let asking = async {
        while let Err(reason) = ask(address, check).await {
            let pause = if matches!(reason, NotReady::Connect(_)) { CONNECT_PAUSE } else { ANSWER_PAUSE };
            last = reason;
            sleep(pause).await;
        }
    };
    let answered = timeout(limit, asking).await;
    answered.map_err(|_| last)
}

async fn ask(address: SocketAddr, check: Option<&Check>) -> Result<(), NotReady> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(NotReady::Connect)?,
        Err(_) => return Err(NotReady::Connect(io::ErrorKind::TimedOut.into())),
    };
    // While nobody listens, the kernel can choose this very port for our end, and connect it to itself.
    if stream.local_addr().is_ok_and(|own| own == address) {
        return Err(NotReady::Connect(io::ErrorKind::ConnectionRefused.into()));
    }
    drop(stream);
    match check {
        Some(check) => Ok(check(address).await?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_without_a_listener_is_not_ready() {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        let result = wait(address, None, Duration::from_secs(1)).await;
        assert!(matches!(result, Err(NotReady::Connect(_))), "{result:?}");
    }

    #[tokio::test]
    async fn a_listener_is_ready_without_a_health_check() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        wait(listener.local_addr().unwrap(), None, Duration::from_secs(30)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_health_check_decides() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let refuse: Check =
            Rc::new(|_| Box::pin(std::future::ready(Err(ProbeError::Status(StatusCode::SERVICE_UNAVAILABLE)))));
        let refused = wait(address, Some(&refuse), Duration::from_secs(1)).await;
        assert_eq!(refused.unwrap_err().to_string(), "probe: status 503");
        let pass: Check = Rc::new(|_| Box::pin(std::future::ready(Ok(()))));
        wait(address, Some(&pass), Duration::from_secs(1)).await.unwrap();
    }
}
