//! Rust source as the rules see it: code apart from comments and text, tests apart from the rest.
//!
//! It is a scanner and not a parser. It knows comments, literals and brackets, which is enough to find
//! words, imports and the ends of functions in code that rustfmt has laid out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file under the root of the repository.
pub struct Source {
    /// From the root, with slashes: `src/guard/head.rs`.
    pub path: String,
    /// The text with comments and the contents of literals blanked; lines are as in the file.
    pub code: String,
    /// Per line, what is written in comments of two slashes, without the slashes.
    pub comments: Vec<String>,
    /// Per line, whether it is compiled for tests alone.
    pub tests: Vec<bool>,
    pub text: String,
    line_ends: Vec<usize>,
}

/// A function as its signature and its braces tell it.
pub struct Function {
    pub name: String,
    /// Counted from 1.
    pub line: usize,
    pub lines: usize,
    /// Without `self`.
    pub parameters: usize,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let (code, comments) = split(&text);
        let tests = test_lines(&code);
        let line_ends = code.match_indices('\n').map(|(offset, _)| offset).collect();
        Self { path, code, comments, tests, text, line_ends }
    }

    /// The lines that are built into the program, each with its number counted from 1.
    pub fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.lines().enumerate();
        lines.filter(|(index, _)| !self.tests[*index]).map(|(index, line)| (index + 1, line))
    }

    /// The module of the crate that the file belongs to: `guard` for `src/guard/head.rs`.
    pub fn module(&self) -> &str {
        let below = self.path.split_once("src/").map_or(self.path.as_str(), |(_, below)| below);
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    pub fn is_test(&self) -> bool {
        self.tests.iter().all(|test| *test)
    }

    /// The line of an offset in the code, counted from 1.
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|end| *end < offset) + 1
    }

    /// What stands behind each `crate::` outside of tests, with its line.
    pub fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        for (offset, _) in self.code.match_indices("crate::") {
            let line = self.line_of(offset);
            let rest = &self.code[offset + "crate::".len()..];
            if self.tests[line - 1] {
            } else if rest.starts_with('{') {
                let group = &rest[1..closing(rest, 0).unwrap_or(rest.len() - 1)];
                paths.extend(list(group).iter().map(|item| (line, identifier(item.trim()))));
            } else {
                paths.push((line, identifier(rest)));
            }
        }
        paths
    }

    pub fn functions(&self) -> Vec<Function> {
        word(&self.code, "fn ").filter_map(|offset| self.function(offset)).collect()
    }

    /// None for one that a macro will name.
    fn function(&self, offset: usize) -> Option<Function> {
        let after = offset + "fn ".len();
        let name = identifier(self.code.get(after..)?);
        let mut open = after + name.len();
        if name.is_empty() {
            return None;
        }
        if self.code[open..].starts_with('<') {
            open = closing(&self.code, open)? + 1;
        }
        let close = closing(&self.code, open)?;
        let parameters = list(&self.code[open + 1..close]);
        let body = close + self.code[close..].find(['{', ';'])?;
        let end = if self.code[body..].starts_with('{') { closing(&self.code, body)? } else { body };
        let line = self.line_of(offset);
        Some(Function {
            name,
            line,
            lines: self.line_of(end) - line + 1,
            parameters: parameters.iter().filter(|parameter| !is_self(parameter)).count(),
        })
    }
}

/// Every Rust file below these folders, and for each whether a parent declares it for tests alone.
pub fn rust_files(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut sources: Vec<_> = folders
        .iter()
        .flat_map(|folder| files(&root.join(folder)))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| Source::new(relative(root, &path), read(&path)))
        .collect();
    let for_tests: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let is_within = |module: &String| {
            source.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if for_tests.iter().any(is_within) {
            source.tests.fill(true);
        }
    }
    sources
}

/// Every file below a folder, without what is built, hidden or made by machines.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let hidden = name.starts_with('.') && ![".ci", ".github"].contains(&name.as_str());
            if hidden || ["target", "seeds", "results", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

pub fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The offsets where a word or a path such as `tokio::` stands by itself.
pub fn word<'a>(text: &'a str, wanted: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(wanted).map(|(offset, _)| offset).filter(move |offset| {
        let begins_inside = wanted.starts_with(part_of_name) && text[..*offset].ends_with(part_of_name);
        let ends_inside = wanted.ends_with(part_of_name) && text[offset + wanted.len()..].starts_with(part_of_name);
        !begins_inside && !ends_inside
    })
}

pub fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Takes a text apart: code with blanks for everything else, and the line comments.
fn split(text: &str) -> (String, Vec<String>) {
    let mut code = String::with_capacity(text.len());
    let mut comments = vec![String::new(); text.lines().count()];
    let (mut rest, mut line, mut before) = (text, 0, None);
    while let Some(first) = rest.chars().next() {
        let length = literal_or_comment(rest, before);
        let (taken, behind) = rest.split_at(length.max(first.len_utf8()));
        if length == 0 {
            code.push(first);
        } else {
            code.extend(taken.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        }
        if let Some(comment) = taken.strip_prefix("//") {
            comments[line] = comment.to_owned();
        }
        line += taken.matches('\n').count();
        before = taken.chars().next_back();
        rest = behind;
    }
    (code, comments)
}

/// The length of the literal or comment that begins here; 0 if none does.
fn literal_or_comment(text: &str, before: Option<char>) -> usize {
    let to = |end: Option<usize>| end.unwrap_or(text.len());
    if text.starts_with("//") {
        return to(text.find('\n'));
    }
    if text.starts_with("/*") {
        return to(text.find("*/").map(|at| at + 2));
    }
    if text.starts_with('"') {
        return to(end_of_quoted(text, '"'));
    }
    if let Some(behind) = text.strip_prefix('\'') {
        let mut letters = behind.chars();
        let is_char = letters.next() == Some('\\') || letters.next() == Some('\'');
        return if is_char { to(end_of_quoted(text, '\'')) } else { 0 };
    }
    if !text.starts_with('r') {
        return 0;
    }
    let inside_name = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let behind = text[1..].trim_start_matches('#');
    if (inside_name && before != Some('b')) || !behind.starts_with('"') {
        return 0;
    }
    let hashes = &text[1..text.len() - behind.len()];
    let end = format!("\"{hashes}");
    to(behind[1..].find(&end).map(|at| hashes.len() + 2 + at + end.len()))
}

fn end_of_quoted(text: &str, quote: char) -> Option<usize> {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return Some(at + 1);
        }
    }
    None
}

/// Per line, whether it belongs to an item behind `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    let mut tests = vec![false; code.lines().count()];
    for (offset, _) in code.match_indices("#[cfg(test)]") {
        let end = end_of_item(code, offset + "#[cfg(test)]".len());
        let line = |at: usize| code[..at].matches('\n').count();
        tests[line(offset)..=line(end)].fill(true);
    }
    tests
}

/// Where the item that begins here has its last brace or its semicolon.
fn end_of_item(code: &str, begin: usize) -> usize {
    let mut at = begin;
    while let Some(found) = code[at..].find(['{', ';', '(', '[']) {
        at += found;
        match code.as_bytes()[at] {
            b';' => return at,
            b'{' => return closing(code, at).unwrap_or(at),
            _ => at = closing(code, at).unwrap_or(at) + 1,
        }
    }
    begin
}

/// The modules that are declared as `#[cfg(test)] mod name;`: a file each, or all of a folder.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = match source.path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    let behind = source.code.match_indices("#[cfg(test)]").map(|(offset, found)| &source.code[offset + found.len()..]);
    behind
        .filter_map(|item| {
            let declared = item.split([';', '{']).next()?.trim();
            let name = declared.rsplit_once("mod ").map(|(_, name)| name)?;
            Some(format!("{folder}/{name}"))
        })
        .collect()
}

/// The bracket that closes the one at this offset. Arrows close nothing.
fn closing(code: &str, open: usize) -> Option<usize> {
    let angles = code[open..].starts_with('<');
    let mut depth = 0_usize;
    for (at, letter) in code[open..].char_indices() {
        let arrow = matches!(code[..open + at].chars().next_back(), Some('-' | '='));
        match letter {
            '(' | '[' | '{' => depth += 1,
            '<' if angles => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if angles && !arrow => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(open + at);
        }
    }
    None
}

/// The items between commas that stand in no bracket.
fn list(text: &str) -> Vec<&str> {
    let (mut items, mut begin, mut depth, mut last) = (Vec::new(), 0, 0_i32, ' ');
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if last != '-' && last != '=' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
        last = letter;
    }
    items.push(&text[begin..]);
    items.retain(|item| !item.trim().is_empty());
    items
}

fn is_self(parameter: &str) -> bool {
    let words = parameter.split(|letter: char| !(letter.is_alphanumeric() || "_'".contains(letter)));
    words.into_iter().find(|word| !matches!(*word, "" | "mut") && !word.starts_with('\'')) == Some("self")
}

mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("src/guard/head.rs".to_owned(), text.to_owned())
    }

    #[test]
    fn text_and_comments_are_not_code() {
        let check = |text: &str, code: &str| assert_eq!(source(text).code, code, "{text}");
        check(r#"a("b\"c", 'd', '\'', &'e f)"#, r#"a(      ,    ,     , &'e f)"#);
        check("a; // b\nc /* d\n */ e", "a;     \nc     \n    e");
        check(r##"r#"a"b"# + br"c" + for_r"""##, "         + b     + for_r  ");
        assert_eq!(source("a\nb; // c").comments, ["", " c"]);
    }

    #[test]
    fn what_is_compiled_for_tests_is_known() {
        let found = source("a\n#[cfg(test)]\nfn b(c: [u8; 1]) {\n d\n}\ne\n#[cfg(test)]\nmod f;\n");
        assert_eq!(found.tests, [false, true, true, true, true, false, true, true]);
        assert_eq!(test_modules(&found), ["src/guard/head/f"]);
    }

    #[test]
    fn paths_of_the_crate_are_found() {
        let found = source("use crate::{a, b::{c, d}};\npub(crate) fn e(f: crate::g::H) {}");
        assert_eq!(found.crate_paths(), [(1, "a".to_owned()), (1, "b".to_owned()), (2, "g".to_owned())]);
        assert_eq!(found.module(), "guard");
    }

    #[test]
    fn functions_have_lengths_and_parameters() {
        let check = |text: &str, lines: usize, parameters: usize| {
            let functions = source(text).functions();
            assert_eq!((functions[0].lines, functions[0].parameters), (lines, parameters), "{text}");
        };
        check("fn a() {}", 1, 0);
        check("fn a<F: Fn(u8) -> u8>(&'b mut self, c: HashMap<D, E>, f: F) -> G\nwhere\n{\n}", 4, 2);
        check("fn a(mut self: Rc<Self>, b: fn(C, D) -> E,);", 1, 1);
        assert!(source("type A = fn(B) -> C;").functions().is_empty());
    }
}
