//! Reads `config.toml` and what it includes. The only part of the configuration that touches files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::decode::{Decode, Decoder};
use super::diagnostics::{Diagnostic, Diagnostics, Source};
use super::effective::Effective;
use super::environment::Environment;
use super::parse::{Parsed, parse_sources};
use super::section::List;
use super::{Config, Profile, tree};

/// More included files are taken for a wrong pattern.
const INCLUDED_MAX: usize = 1_000;
/// A larger file is no configuration.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// What was read, and what it means.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// Every file that was read, and the folders in which included files are looked for: what to watch.
    pub files: Vec<PathBuf>,
    pub warnings: Diagnostics,
    pub effective: Effective,
}

/// Reads and checks the configuration.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Diagnostics> {
    let main = source(path).map_err(|error| Diagnostics::plain(format!("cannot read {}: {error}", path.display())))?;
    let mut watched = BTreeSet::from([path.to_owned()]);
    let mut found = Vec::new();
    let mut sources = Vec::new();
    let patterns = includes(&main);
    let folder = main.folder.clone();
    sources.push(main);
    for pattern in &patterns {
        let report = |message: String| Diagnostic::error(pattern.origin, message);
        match included(&folder, &pattern.value) {
            Err(message) => found.push(report(message)),
            Ok((looked_in, files)) => {
                watched.insert(looked_in);
                for file in files {
                    // A file that two patterns find is read once.
                    if !watched.insert(file.clone()) {
                        continue;
                    }
                    match source(&file) {
                        Ok(source) => sources.push(source),
                        Err(error) => found.push(report(format!("cannot read {}: {error}", file.display()))),
                    }
                }
            }
        }
    }
    let Parsed { config, warnings, effective, files } = parse_sources(sources, found, environment)?;
    watched.extend(files);
    Ok(Loaded { config, files: watched.into_iter().collect(), warnings, effective })
}

impl Environment {
    /// This process: its variables, its files, its limit of open files.
    pub fn system() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            variable: Box::new(|name| std::env::var(name).ok()),
            read: Box::new(|path| read(path)),
            open_files_max: limit.current.unwrap_or(u64::MAX),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

fn source(path: &Path) -> io::Result<Source> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Source { name: path.display().to_string(), folder, text: read(path)? })
}

fn read(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 16 MiB"));
    }
    std::fs::read_to_string(path)
}

/// The patterns of `include`. What is wrong with the key is reported when the file is decoded.
fn includes(main: &Source) -> List<String> {
    let (tree, _) = tree::read(&main.text, 0);
    let entry = tree.get("include");
    let list = entry.and_then(|entry| List::<String>::decode(&entry.node, &mut Decoder::new(Profile::Production)));
    list.unwrap_or_default()
}

/// The folder that was looked in and the files that the pattern finds there, sorted by name.
fn included(folder: &Path, pattern: &str) -> Result<(PathBuf, Vec<PathBuf>), String> {
    let path = folder.join(pattern);
    let looked_in = path.parent().unwrap_or(folder).to_owned();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if looked_in.to_string_lossy().contains(['*', '?', '[']) {
        return Err("only the name of the file can hold `*`, not its folder".to_owned());
    }
    if !name.contains('*') {
        return if path.is_file() {
            Ok((looked_in, vec![path]))
        } else {
            Err(format!("there is no file {}", path.display()))
        };
    }
    let entries = match std::fs::read_dir(&looked_in) {
        Ok(entries) => entries,
        // A folder for later is as good as an empty one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((looked_in, Vec::new())),
        Err(error) => return Err(format!("cannot look into {}: {error}", looked_in.display())),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().and_then(|found| found.to_str()).is_some_and(|found| matches(name, found)))
        .filter(|path| path.is_file())
        .collect();
    if files.len() > INCLUDED_MAX {
        return Err(format!("finds {} files, at most {INCLUDED_MAX} are read", files.len()));
    }
    files.sort();
    Ok((looked_in, files))
}

/// `*` stands for any text; a name that starts with a dot is found by a pattern that does.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').map_or(("", rest), |(middle, end)| (middle, end));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some((_, after)) = name.split_once(part) else { return false };
        name = after;
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_at_the_root_loads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
        let loaded = load(&path, &Environment::system()).unwrap_or_else(|found| panic!("{}", found.render(false)));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.render(false));
        assert!(loaded.files.contains(&path));
        println!("{}", loaded.effective);
    }
}
