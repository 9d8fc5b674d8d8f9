//! Writing for people and programs. A reader that has gone (`tollgate status | head -1`) is no error and no panic.

use std::io::{self, Write as _};

use anyhow::anyhow;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::Failure;
use crate::telemetry::access_log::deceives;

/// A result, to stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(drop)
}

/// A part of one; false if its reader has gone.
pub fn print_on(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(end.as_bytes()))
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow!(error).context("cannot write the result").into())
        }
        written => Ok(written.is_ok()),
    }
}

pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Anything but a result, to stderr. There is nobody to tell if that is closed.
pub fn say(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

/// Whether stderr takes colours.
pub fn has_colour() -> bool {
    takes_colour(&io::stderr())
}

/// <https://no-color.org>, and not into files.
fn takes_colour(stream: &impl io::IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colours, where they are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    pub fn of_stdout() -> Self {
        Self(takes_colour(&io::stdout()))
    }

    pub fn plain() -> Self {
        Self(false)
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Columns without lines between them, as `ps` and `docker ps` print. What a cell holds may come from a peer, so what a
/// terminal would obey, or show in another order than it stands, is escaped.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| shown(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Text of others, safe for a terminal.
pub fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if deceives(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// How long something took, as `25.0 ms` or `1.25 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1_000.0) } else { format!("{seconds:.2} s") }
}

/// `1 listener`, `2 listeners`.
pub fn count(count: usize, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// The same of what may be more than there is memory for.
pub fn count_u64(count: u64, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// The lines of a table without its padding.
#[cfg(test)]
pub fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_escape() {
        let rows = [["app".to_owned(), "10.0.0.1:3000".to_owned()], ["a\x1b[31m".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "ADDRESS"], rows), "NAME         ADDRESS\napp          10.0.0.1:3000\na\\u{1b}[31m");
    }

    #[test]
    fn d7_text_of_others_neither_drives_nor_deceives_a_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected);
        check("/é?a=b", "/é?a=b");
        check("\u{9b}31m\r\n\u{7f}", "\\u{9b}31m\\r\\n\\u{7f}");
        check("ok\u{202e}ko\u{2066}\u{61c}", "ok\\u{202e}ko\\u{2066}\\u{61c}");
    }

    #[test]
    fn counts_have_a_plural() {
        assert_eq!([0, 1, 2].map(|n| count(n, "route")), ["0 routes", "1 route", "2 routes"]);
    }
}
