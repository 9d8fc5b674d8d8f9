//! Reads `config.toml` and what it includes. With [`files`](super::files), which notes what was in them, the only part
//! of the configuration that touches the disk.

use std::io;
use std::path::{Path, PathBuf};

use super::decode::Decoder;
use super::diagnostics::{Diagnostic, Diagnostics, Origin, Source, Span};
use super::effective::Effective;
use super::environment::Environment;
use super::file::File;
use super::files::Files;
use super::parse::{Parsed, parse_sources};
use super::section::{List, Section};
use super::{Config, Profile, tree};
use crate::machine;

/// More included files are taken for a wrong pattern.
const INCLUDED_MAX: usize = 1_000;
/// A larger file is no configuration.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// What was read, and what it means.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// Every file that was read, and the folders in which included files are looked for: what to watch.
    pub files: Files,
    pub warnings: Diagnostics,
    pub effective: Effective,
}

/// What was read is not usable; with the files in which that can be mended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{diagnostics}")]
pub struct Unusable {
    pub diagnostics: Diagnostics,
    pub files: Files,
}

/// Reads and checks the configuration.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Unusable> {
    let mut files = Files::default();
    let main = match source(path, &mut files) {
        Ok(main) => main,
        Err(error) => {
            let diagnostics = Diagnostics::plain(format!("cannot read {}: {error}", path.display()));
            return Err(Unusable { diagnostics, files });
        }
    };
    let mut found = Vec::new();
    let mut sources = Vec::new();
    let patterns = includes(&main);
    let folder = main.folder.clone();
    sources.push(main);
    for pattern in &patterns {
        let report = |message: String| Diagnostic::error(pattern.origin, message);
        let included = included(&folder, &pattern.value, &mut files).unwrap_or_else(|message| {
            found.push(report(message));
            Vec::new()
        });
        for file in included {
            // A file that two patterns find is read once.
            if files.contains(&file) {
                continue;
            }
            match source(&file, &mut files) {
                Ok(source) => sources.push(source),
                Err(error) => found.push(report(format!("cannot read {}: {error}", file.display()))),
            }
        }
    }
    let (parsed, named) = parse_sources(sources, found, environment);
    // Certificates and keys are read for use after this, so what is used is never older than what is noted here.
    named.into_iter().for_each(|file| files.add(file));
    match parsed {
        Ok(Parsed { config, warnings, effective }) => Ok(Loaded { config, files, warnings, effective }),
        Err(diagnostics) => Err(Unusable { diagnostics, files }),
    }
}

impl Environment {
    /// This process: its variables, its files, its limit of open files.
    pub fn system() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            variable: |name| std::env::var(name).ok(),
            read,
            open_files_max: limit.current.unwrap_or(u64::MAX),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_limit: machine::memory_limit(),
        }
    }
}

/// Notes what it has read, or that there was nothing to read.
fn source(path: &Path, files: &mut Files) -> io::Result<Source> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let text = read(path).inspect_err(|_| files.add(path.to_owned()))?;
    files.add_read(path.to_owned(), text.as_bytes());
    Ok(Source { name: path.display().to_string(), folder, text })
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
    let start = Origin::File(Span { file: 0, start: 0, end: 0 });
    File::from_table(&tree, start, &mut Decoder::new(Profile::Production)).include.value
}

/// The files that the pattern finds, sorted by name. Notes where it looked.
fn included(folder: &Path, pattern: &str, files: &mut Files) -> Result<Vec<PathBuf>, String> {
    let path = folder.join(pattern);
    let looked_in = path.parent().unwrap_or(folder).to_owned();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if looked_in.to_string_lossy().contains(['*', '?', '[']) {
        return Err("only the name of the file can hold `*`, not its folder".to_owned());
    }
    if !name.contains('*') {
        if path.is_file() {
            return Ok(vec![path]);
        }
        let message = format!("there is no file {}", path.display());
        files.add(path);
        return Err(message);
    }
    files.add(looked_in.clone());
    let entries = match std::fs::read_dir(&looked_in) {
        Ok(entries) => entries,
        // A folder for later is as good as an empty one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot look into {}: {error}", looked_in.display())),
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().and_then(|found| found.to_str()).is_some_and(|found| matches(name, found)))
        .filter(|path| path.is_file())
        .collect();
    if found.len() > INCLUDED_MAX {
        return Err(format!("finds {} files, at most {INCLUDED_MAX} are read", found.len()));
    }
    found.sort();
    Ok(found)
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
    use std::fs;

    use super::*;

    const MAIN: &str = "include = [\"conf.d/*.toml\"]\n[[listen]]\naddress = \"127.0.0.1:0\"\n";

    /// A folder with these files, and what loading its `config.toml` says.
    fn loaded(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Loaded, Unusable>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let loaded = load(&folder.path().join("config.toml"), &Environment::system());
        (folder, loaded)
    }

    #[track_caller]
    fn refused(files: &[(&str, &str)], expected: &[&str]) {
        let (folder, loaded) = loaded(files);
        let said = loaded.unwrap_err().to_string().replace(&format!("{}/", folder.path().display()), "");
        for expected in expected {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn the_file_at_the_root_loads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
        let loaded = load(&path, &Environment::system()).unwrap_or_else(|found| panic!("{found}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.render(false));
        assert!(loaded.files.contains(&path));
    }

    #[test]
    fn included_files_are_joined_in_the_order_of_their_names() {
        let app = "[upstream.app]\nendpoints = [\"app:80\"]\n[[route]]\npath = \"/\"\nupstream = \"app\"\n";
        let more = "[[route]]\npath = \"/more\"\nupstream = \"app\"\n[[certificate]]\nhosts = [\"a\"]\n\
                    certificate = \"a.pem\"\nkey = \"../a.key\"\n";
        let (folder, loaded) = loaded(&[
            ("config.toml", MAIN),
            ("conf.d/20-more.toml", more),
            ("conf.d/10-app.toml", app),
            ("conf.d/.hidden.toml", "broken"),
            ("conf.d/notes.txt", "broken"),
            ("conf.d/a.pem", "pem"),
            ("a.key", "key"),
        ]);
        let Loaded { config, files, .. } = loaded.unwrap_or_else(|found| panic!("{found}"));
        let names: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
        assert_eq!(names, ["/", "/more"]);
        assert!(config.routes[1].origin.ends_with("conf.d/20-more.toml:1"), "{}", config.routes[1].origin);
        // Its files are relative to the included file.
        let watched = ["a.key", "conf.d", "conf.d/10-app.toml", "conf.d/20-more.toml", "conf.d/a.pem", "config.toml"];
        let relative =
            |path: &Path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().replace("conf.d/../", "");
        let mut found: Vec<_> = files.paths().map(relative).collect();
        found.sort();
        assert_eq!(found, watched);
    }

    #[test]
    fn a_command_is_told_the_folder_of_the_file_that_it_stands_in() {
        let app = "[upstream.app]\nrun = { command = [\"{self}\", \"{folder}/data\", \"{port}\"] }\n\
                   [[route]]\npath = \"/\"\nupstream = \"app\"\n";
        let (folder, loaded) = loaded(&[("config.toml", MAIN), ("conf.d/app.toml", app)]);
        let Loaded { config, .. } = loaded.unwrap_or_else(|found| panic!("{found}"));
        let crate::config::Source::Run(run) = &config.upstreams[0].source else { panic!("it runs replicas") };
        let data = format!("{}/conf.d/data", folder.path().display());
        assert_eq!(run.command, ["{self}", &data, "{port}"]);
    }

    #[test]
    fn mistakes_in_included_files_name_them() {
        refused(
            &[
                ("config.toml", MAIN),
                (
                    "conf.d/a.toml",
                    "[upstream.app]\nendpoints = [\"app:80\"]\n[[route]]\npath = \"/\"\nupstrem = \"app\"\n",
                ),
                ("conf.d/b.toml", "profile = \"staging\"\n[upstream.app]\nendpoints = [\"app:80\"]\n"),
            ],
            &[
                "conf.d/a.toml:5:1: unknown key `upstrem` in [[route]]",
                "conf.d/b.toml:1:1: `profile` stands in the main file only",
                "conf.d/b.toml:2:11: `upstream.app` is given in two files",
            ],
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        refused(&[], &["cannot read config.toml: No such file"]);
        refused(
            &[("config.toml", "include = [\"other.toml\", \"*/x.toml\"]\n")],
            &[
                "config.toml:1:12: there is no file other.toml",
                "config.toml:1:26: only the name of the file can hold `*`",
            ],
        );
        let token = "[admin]\ncontrol = { token = \"file:none\" }\n";
        refused(&[("config.toml", token)], &["config.toml:2:21: cannot read none: No such file"]);
    }

    #[test]
    fn the_files_of_a_refused_version_are_known_too() {
        let check = |files: &[(&str, &str)], expected: &[&str]| {
            let (folder, loaded) = loaded(files);
            let files = loaded.unwrap_err().files;
            let found: Vec<_> = files.paths().map(|path| path.strip_prefix(folder.path()).unwrap()).collect();
            assert_eq!(found, expected.iter().map(Path::new).collect::<Vec<_>>());
        };
        check(&[], &["config.toml"]);
        check(&[("config.toml", "include = [\"part.toml\"]\n")], &["config.toml", "part.toml"]);
        let part = ("part.toml", "[[route]]\ntxt = \"typo\"\n");
        check(&[("config.toml", "include = [\"part.toml\"]\n"), part], &["config.toml", "part.toml"]);
        check(&[("config.toml", MAIN), ("conf.d/a.toml", "[")], &["conf.d", "conf.d/a.toml", "config.toml"]);
        let token = "[admin]\ncontrol = { token = \"file:none\" }\n";
        check(&[("config.toml", token)], &["config.toml", "none"]);
    }

    #[test]
    fn patterns_match_names_of_files() {
        let check = |pattern, name, expected| assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        check("*.toml", "a.toml", true);
        check("*.toml", "a.toml~", false);
        check("*.toml", ".a.toml", false);
        check(".*", ".a.toml", true);
        check("a-*-z.toml", "a-b-c-z.toml", true);
        check("a-*-z.toml", "a-z.toml", false);
        check("*a*b*", "xxaxxbxx", true);
        check("*a*b*", "xxbxxaxx", false);
        check("*", "anything", true);
    }
}
