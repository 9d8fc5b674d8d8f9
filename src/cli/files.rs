//! Whether what the configuration names outside of itself can be used: certificates, trusted roots, the places of
//! the access log and of the control socket. It builds what `run` builds and opens what `run` opens, but makes no
//! file and listens on nothing.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use socket2::SockAddr;

use crate::cache::Cache;
use crate::clock;
use crate::config::diagnostics::Diagnostic;
use crate::config::{Config, Diagnostics, LogTarget};
use crate::overload::Overload;
use crate::snapshot::{Lasting, Snapshot};
use crate::telemetry::Metrics;
use crate::tls::Certificates;

use super::Failure;

/// Everything that `run` would refuse, as errors, and what it would warn of.
pub fn look(config: &Config) -> Result<Diagnostics, Failure> {
    let mut found = Vec::new();
    let certificates = Certificates::new()?;
    for certificate in &config.certificates {
        // One at a time, so that all that are wrong are named.
        match certificates.prepare(std::slice::from_ref(certificate), clock::system_time()) {
            Ok(prepared) => {
                found.extend(prepared.warnings.iter().map(|doubt| Diagnostic::warning(None, doubt.to_string())))
            }
            Err(error) => found.push(Diagnostic::error(None, error.to_string())),
        }
    }
    match Cache::new(config.cache.limits(), 1) {
        Ok(cache) => {
            let metrics = &Metrics::new(clock::system_time());
            let overload = &Overload::default();
            let lasting = Lasting { certificates: &certificates, metrics, cache: &cache, overload, spans: None };
            if let Err(error) = Snapshot::build(config.clone(), None, &lasting) {
                found.push(Diagnostic::error(None, error.to_string()));
            }
        }
        Err(error) => found.push(Diagnostic::error(None, error.to_string())),
    }
    if let LogTarget::File(path) = &config.log.access.target
        && let Err(error) = log_file(path)
    {
        let message = format!("cannot open the access log {}: {error}", path.display());
        found.push(Diagnostic::error(None, message));
    }
    if let Some(path) = config.admin.as_ref().and_then(|admin| admin.socket.as_ref())
        && let Err(error) = socket(path)
    {
        let message = format!("cannot bind the control socket {}: {error}", path.display());
        found.push(Diagnostic::error(None, message));
    }
    Ok(Diagnostics::new(Vec::new(), found))
}

fn log_file(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(data) if data.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(access(path, Access::WRITE_OK)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => room_for(path),
        Err(error) => Err(error),
    }
}

fn socket(path: &Path) -> io::Result<()> {
    // A longer path than the system takes is an error here.
    SockAddr::unix(path)?;
    match fs::symlink_metadata(path) {
        // That of a running proxy is no mistake, and one that is left over is replaced.
        Ok(data) if data.file_type().is_socket() => Ok(()),
        Ok(_) => Err(io::Error::other("there is a file that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => room_for(path),
        Err(error) => Err(error),
    }
}

/// Whether a file that is not there could be made.
fn room_for(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    match fs::metadata(&folder) {
        Ok(data) if !data.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        Ok(_) => Ok(access(&folder, Access::WRITE_OK | Access::EXEC_OK)?),
        Err(error) => Err(io::Error::new(error.kind(), format!("its folder {}: {error}", folder.display()))),
    }
}
