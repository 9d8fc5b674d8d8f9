//! Where lines go: an open file, pipe or terminal, and what to do when it takes no more.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memchr::memrchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::LogTarget;
use crate::lock::lock;

/// How long a full pipe in non-blocking mode is waited for before its lines are given up.
const PIPE_PATIENCE: Duration = Duration::from_secs(1);

/// One target, open. The writer thread alone writes; any thread may have it opened anew.
#[derive(Debug)]
pub struct Sink {
    target: LogTarget,
    /// None: switched off.
    file: Mutex<Option<Arc<File>>>,
    progress: Mutex<Progress>,
}

/// What the last write left behind.
#[derive(Debug, Default)]
struct Progress {
    /// The last write ended within a line.
    torn: bool,
    /// The last write failed, which has been reported.
    failing: bool,
}

impl Sink {
    pub fn open(target: &LogTarget) -> io::Result<Self> {
        let file = Mutex::new(open(target)?.map(Arc::new));
        Ok(Self { target: target.clone(), file, progress: Mutex::default() })
    }

    /// Opens the target anew, so that a file that was moved away is left and made again.
    pub fn reopen(&self) -> io::Result<()> {
        let file = open(&self.target)?.map(Arc::new);
        *lock(&self.file) = file;
        Ok(())
    }

    pub fn target(&self) -> &LogTarget {
        &self.target
    }

    /// Writes whole lines and returns how many of them were lost. The first failure in a row is
    /// reported; the next batch tries again.
    pub fn write(&self, lines: &[u8]) -> u64 {
        // The lock is not held while writing: a pipe that hangs must not hold up `reopen`.
        let Some(file) = lock(&self.file).clone() else {
            return 0;
        };
        let mut progress = lock(&self.progress);
        let result = progress.write(lines, |bytes| write_some(&file, bytes));
        let Err(Stopped { error, written }) = result else {
            progress.failing = false;
            return 0;
        };
        let rest = lines.get(written..).unwrap_or_default();
        let lost = memchr::memchr_iter(b'\n', rest).count() as u64;
        if !progress.failing {
            progress.failing = true;
            let target = super::shown(&self.target);
            tracing::error!("the access log {target} cannot be written; lines are dropped and counted: {error}");
        }
        lost
    }

    #[cfg(test)]
    pub fn null() -> Self {
        Self { target: LogTarget::Off, file: Mutex::default(), progress: Mutex::default() }
    }
}

/// A write that ended before the end of its bytes.
#[derive(Debug)]
struct Stopped {
    error: io::Error,
    written: usize,
}

impl Progress {
    /// Writes all of `lines`. After a stop within a line the next write begins with a line feed, so that
    /// one line is damaged and no more.
    fn write(&mut self, lines: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> Result<(), Stopped> {
        if self.torn {
            write(b"\n").map_err(|error| Stopped { error, written: 0 })?;
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let written = lines.len() - rest.len();
            match write(rest) {
                Ok(0) => return Err(self.stop(lines, written, io::ErrorKind::WriteZero.into())),
                Ok(more) => rest = rest.get(more..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.stop(lines, written, error)),
            }
        }
        Ok(())
    }

    fn stop(&mut self, lines: &[u8], written: usize, error: io::Error) -> Stopped {
        let done = lines.get(..written).unwrap_or_default();
        self.torn = !done.is_empty() && memrchr(b'\n', done) != Some(done.len() - 1);
        Stopped { error, written }
    }
}

fn open(target: &LogTarget) -> io::Result<Option<File>> {
    let file = match target {
        LogTarget::Off => return Ok(None),
        // Own descriptors without the line buffers of std.
        LogTarget::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        LogTarget::Stderr => File::from(io::stderr().as_fd().try_clone_to_owned()?),
        LogTarget::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path)?,
    };
    Ok(Some(file))
}

fn write_some(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    match file.write(bytes) {
        // Somebody who shares the pipe made it non-blocking.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let patience = Timespec::try_from(PIPE_PATIENCE).map_err(|_| io::ErrorKind::InvalidInput)?;
            match poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&patience))? {
                0 => Err(error),
                _ => file.write(bytes),
            }
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that takes `room` bytes in all, `step` at a time.
    fn limited<'a>(taken: &'a mut Vec<u8>, room: usize, step: usize) -> impl FnMut(&[u8]) -> io::Result<usize> + 'a {
        move |bytes| match bytes.len().min(step).min(room - taken.len()) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            fits => {
                taken.extend_from_slice(&bytes[..fits]);
                Ok(fits)
            }
        }
    }

    #[test]
    fn short_writes_are_continued_and_a_torn_line_is_ended() {
        let check = |room, written: Option<usize>, after: &[u8]| {
            let (mut progress, mut taken) = (Progress::default(), Vec::new());
            let stopped = progress.write(b"one\ntwo\n", limited(&mut taken, room, 3)).err();
            assert_eq!(stopped.map(|stopped| stopped.written), written, "room {room}");
            progress.write(b"three\n", limited(&mut taken, 100, 100)).unwrap();
            assert_eq!(taken, after, "room {room}");
        };
        check(100, None, b"one\ntwo\nthree\n");
        check(8, None, b"one\ntwo\nthree\n");
        check(0, Some(0), b"three\n");
        check(4, Some(4), b"one\nthree\n");
        check(5, Some(5), b"one\nt\nthree\n");
    }

    #[test]
    fn lines_lost_on_a_full_disk_are_counted() {
        let sink = Sink::open(&LogTarget::File("/dev/full".into())).unwrap();
        assert_eq!(sink.write(b"a\nb\n"), 2);
        assert_eq!(sink.write(b"c\n"), 1);
    }

    #[test]
    fn a_vanished_reader_loses_lines_and_nothing_else() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let sink = Sink { file: Mutex::new(Some(Arc::new(file))), ..Sink::null() };
        assert_eq!(sink.write(b"a\nb\n"), 2);
    }

    #[test]
    fn a_file_is_appended_to_and_made_again_after_it_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        std::fs::write(&path, "old\n").unwrap();
        let sink = Sink::open(&LogTarget::File(path.clone())).unwrap();
        sink.write(b"a\n");
        let moved = dir.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        sink.write(b"b\n");
        sink.reopen().unwrap();
        sink.write(b"c\n");
        assert_eq!(std::fs::read(moved).unwrap(), b"old\na\nb\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"c\n");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777 & !0o640, 0);
    }

    #[test]
    fn a_folder_that_is_gone_leaves_the_old_file_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        std::fs::create_dir(&folder).unwrap();
        let sink = Sink::open(&LogTarget::File(folder.join("access.log"))).unwrap();
        std::fs::rename(&folder, dir.path().join("moved")).unwrap();
        assert!(sink.reopen().is_err());
        assert_eq!(sink.write(b"a\n"), 0);
        assert_eq!(std::fs::read(dir.path().join("moved/access.log")).unwrap(), b"a\n");
    }
}
