//! What a stored response is the answer to, as far as a purge asks for it.

/// Host, path and query in one text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    text: Box<str>,
    host_length: usize,
    path_length: usize,
}

impl Target {
    /// The host as `header::authority` spells it, the canonical path, and the query that is in the key. A query that is
    /// empty and one that is not there are two targets.
    pub fn new(host: &str, path: &str, query: Option<&str>) -> Self {
        let text = match query {
            Some(query) => format!("{host}{path}?{query}"),
            None => format!("{host}{path}"),
        };
        Self { text: text.into(), host_length: host.len(), path_length: path.len() }
    }

    pub fn host(&self) -> &str {
        self.text.get(..self.host_length).unwrap_or_default()
    }

    pub fn path(&self) -> &str {
        self.text.get(self.host_length..self.host_length + self.path_length).unwrap_or_default()
    }

    /// With `?` between them, if there is a query.
    pub fn path_and_query(&self) -> &str {
        self.text.get(self.host_length..).unwrap_or_default()
    }

    /// In bytes.
    pub fn weight(&self) -> u64 {
        self.text.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_target() {
        let check = |query: Option<&str>, path_and_query: &str| {
            let target = Target::new("example.com:8080", "/a/b", query);
            assert_eq!(target.host(), "example.com:8080");
            assert_eq!(target.path(), "/a/b");
            assert_eq!(target.path_and_query(), path_and_query);
        };
        check(None, "/a/b");
        check(Some(""), "/a/b?");
        check(Some("x=1?y"), "/a/b?x=1?y");
    }
}
