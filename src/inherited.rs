//! Descriptors that the process was started with: the sockets of a service manager, and the one that
//! `--ready-fd` names. They are taken once, and no child gets them; what becomes of them is decided elsewhere.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use socket2::SockRef;

/// A listen socket that the service manager made, and keeps.
#[derive(Debug)]
pub struct HandedOver {
    /// What the manager calls it.
    pub name: String,
    pub address: SocketAddr,
    pub socket: TcpListener,
}

#[derive(Debug, thiserror::Error)]
#[error("--ready-fd {descriptor}: {source}")]
pub struct ReadyFdError {
    descriptor: i32,
    source: Errno,
}

/// The descriptor of `--ready-fd`. To be called once, before [`sockets`].
pub fn ready(descriptor: i32) -> Result<OwnedFd, ReadyFdError> {
    let failed = |source| ReadyFdError { descriptor, source };
    close_on_exec(descriptor).map_err(failed)?;
    Ok(own(descriptor))
}

/// The sockets of a systemd socket unit, without `taken`. To be called once.
///
/// What is no TCP listener is of no use here: it is named in the log and closed.
pub fn sockets(taken: Option<i32>) -> Vec<HandedOver> {
    let named = sd_notify::listen_fds_with_names().map(Iterator::collect::<Vec<_>>);
    let named = named.or_else(|_| {
        // Their number and that of their names differ.
        sd_notify::listen_fds().map(|all| all.map(|descriptor| (descriptor, "unknown".to_owned())).collect())
    });
    let named = named.unwrap_or_else(|error| {
        tracing::warn!("the sockets of the service manager are not usable: {error}");
        Vec::new()
    });
    named
        .into_iter()
        .filter(|(descriptor, _)| taken != Some(*descriptor))
        .filter_map(|(descriptor, name)| listener(own(descriptor), name))
        .collect()
}

fn listener(descriptor: OwnedFd, name: String) -> Option<HandedOver> {
    let is_listener = SockRef::from(&descriptor).is_listener().unwrap_or(false);
    let socket = TcpListener::from(descriptor);
    match socket.local_addr() {
        Ok(address) if is_listener => Some(HandedOver { name, address, socket }),
        _ => {
            tracing::warn!("{name:?}, which the service manager handed over, is no TCP listener; it is closed");
            None
        }
    }
}

#[allow(unsafe_code)]
fn close_on_exec(descriptor: i32) -> Result<(), Errno> {
    // SAFETY: nothing is read or written, and nothing in this process opens or closes descriptors at the
    // same time. If none is open by this number, the answer is an error.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)
}

#[allow(unsafe_code)]
fn own(descriptor: i32) -> OwnedFd {
    // SAFETY: the parent process opened this descriptor for us, it was seen to be open, and nothing else in the
    // process uses it; it is taken once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
