//! A text with tables and plots, and its two forms: Markdown, and one page of HTML that needs nothing else.

use std::fmt::Write as _;

/// For both of a screen's moods.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fff; --line: #d8dce3; --pass: #1a7f37; --fail: #c62828; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ee; --paper: #14181f; --line: #38404d; --pass: #57c878; --fail: #ff7b72; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink); background: var(--paper); }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.pass { color: var(--pass); } .fail { color: var(--fail); font-weight: 600; }
figure { margin: 1rem 0; } figcaption { font-size: .9em; } svg { width: 100%; height: auto; }
";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Text(String),
    Verdict(bool),
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

#[derive(Debug)]
pub enum Block {
    Heading(String),
    Text(String),
    List(Vec<String>),
    Table {
        head: Vec<&'static str>,
        rows: Vec<Vec<Cell>>,
    },
    /// An SVG; Markdown goes without.
    Plot {
        caption: String,
        svg: String,
    },
}

#[derive(Debug)]
pub struct Document {
    pub title: String,
    pub blocks: Vec<Block>,
}

impl Document {
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        for block in &self.blocks {
            match block {
                Block::Heading(heading) => text += &format!("\n## {heading}\n"),
                Block::Text(paragraph) => text += &format!("\n{paragraph}\n"),
                Block::List(items) => {
                    text.push('\n');
                    items.iter().for_each(|item| text += &format!("- {item}\n"));
                }
                Block::Table { head, rows } => text += &markdown_table(head, rows),
                Block::Plot { .. } => {}
            }
        }
        text
    }

    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n<h1>{title}</h1>\n"
        );
        for block in &self.blocks {
            page += &match block {
                Block::Heading(heading) => format!("<h2>{}</h2>\n", escape(heading)),
                Block::Text(paragraph) => format!("<p>{}</p>\n", prose(paragraph)),
                Block::List(items) => {
                    let items: String = items.iter().map(|item| format!("<li>{}</li>", prose(item))).collect();
                    format!("<ul>{items}</ul>\n")
                }
                Block::Table { head, rows } => html_table(head, rows),
                Block::Plot { caption, svg } => {
                    format!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escape(caption))
                }
            };
        }
        page
    }
}

fn markdown_table(head: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut text = format!("\n| {} |\n| --- |", head.join(" | "));
    text += &" ---: |".repeat(head.len().saturating_sub(1));
    text.push('\n');
    for row in rows {
        let cells = row.iter().map(|cell| match cell {
            Cell::Text(text) => text.replace('|', "\\|"),
            Cell::Verdict(true) => "pass".to_owned(),
            Cell::Verdict(false) => "**FAIL**".to_owned(),
        });
        text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn html_table(head: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut table = "<table><tr>".to_owned();
    for name in head {
        // Writing to a string does not fail.
        let _ = write!(table, "<th>{}</th>", escape(name));
    }
    for row in rows {
        table += "</tr>\n<tr>";
        for cell in row {
            table += &match cell {
                Cell::Text(text) => format!("<td>{}</td>", escape(text)),
                Cell::Verdict(true) => "<td class=\"pass\">pass</td>".to_owned(),
                Cell::Verdict(false) => "<td class=\"fail\">FAIL</td>".to_owned(),
            };
        }
    }
    table + "</tr></table>\n"
}

/// Escaped, and what stands between backticks as code.
fn prose(text: &str) -> String {
    let part = |(place, part): (usize, &str)| match place % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    };
    text.split('`').enumerate().map(part).collect()
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same_and_escape_what_they_must() {
        let document = Document {
            title: "A < B".to_owned(),
            blocks: vec![
                Block::Heading("Figures".to_owned()),
                Block::Text("Of `a<b` alone.".to_owned()),
                Block::Table { head: vec!["what", "is"], rows: vec![vec!["a|b & c".into(), Cell::Verdict(false)]] },
                Block::Plot { caption: "over time".to_owned(), svg: "<svg></svg>".to_owned() },
            ],
        };
        assert_eq!(
            document.markdown(),
            "# A < B\n\n## Figures\n\nOf `a<b` alone.\n\n| what | is |\n| --- | ---: |\n| a\\|b & c | **FAIL** |\n"
        );
        let page = document.html();
        for part in [
            "<h1>A &lt; B</h1>",
            "<p>Of <code>a&lt;b</code> alone.</p>",
            "<td>a|b &amp; c</td>",
            "<td class=\"fail\">FAIL</td>",
            "<svg></svg>",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }
}
