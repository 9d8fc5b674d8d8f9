//! The key that access tokens are signed with: given by the operator, or made once and kept beside the database.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::folder;
use crate::secret::random_hex;

/// As many as the digest of HS256 has (RFC 7518 §3.2).
const KEY_BYTES_MIN: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "the key of access tokens has {0} bytes; it needs at least {KEY_BYTES_MIN}, such as `openssl rand -hex 32` gives"
    )]
    TooShort(usize),
    #[error("the key of access tokens in {0} cannot be used")]
    File(PathBuf, #[source] io::Error),
}

pub struct Key(Vec<u8>);

impl Key {
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let bytes = text.trim().as_bytes();
        if bytes.len() < KEY_BYTES_MIN {
            return Err(KeyError::TooShort(bytes.len()));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The key in `token.key` of this folder, which is made if it is not there. All replicas read the same one.
    pub fn in_folder(folder: &Path) -> Result<Self, KeyError> {
        let path = folder.join("token.key");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(folder, &path).and_then(|()| std::fs::read_to_string(&path))
            }
            read => read,
        };
        Self::new(&text.map_err(|error| KeyError::File(path, error))?)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Puts a new key at `path`, unless somebody else did meanwhile. Nobody ever sees it half written.
fn make(folder: &Path, path: &Path) -> io::Result<()> {
    folder::make(folder)?;
    let new = folder.join(format!("token.key.{}", std::process::id()));
    let mut file = folder::open(&new)?;
    // One with our number may have died here.
    file.set_len(0)?;
    file.write_all(random_hex::<32>().map_err(io::Error::other)?.as_bytes())?;
    file.sync_all()?;
    let linked = match std::fs::hard_link(&new, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    std::fs::remove_file(&new)?;
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Key::in_folder(folder.path()).unwrap();
        assert_eq!(first.bytes().len(), 64);
        assert_eq!(Key::in_folder(folder.path()).unwrap().bytes(), first.bytes());
        let mode = std::fs::metadata(folder.path().join("token.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(matches!(Key::new(" 0123456789 "), Err(KeyError::TooShort(10))));
        Key::new(&"k".repeat(32)).unwrap();
    }
}
