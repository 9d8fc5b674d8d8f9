//! A statement with its values, and the text of it for each database. It touches neither.

use sqlx::{Database, Encode, Type};

/// A statement, named for the metrics. The text is for both databases unless it was given twice.
#[derive(Debug, Clone)]
pub struct Query {
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
    values: Vec<Value>,
}

impl Query {
    /// `name` becomes a label, so it says what is asked and never for what value.
    pub fn new(name: &'static str, text: &'static str) -> Self {
        Self::by_database(name, text, text)
    }

    /// For what the two databases spell differently.
    pub fn by_database(name: &'static str, sqlite: &'static str, postgres: &'static str) -> Self {
        Self { name, sqlite, postgres, values: Vec::new() }
    }

    /// The value of the next placeholder, beginning with `$1`.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The question how SQLite would go about it.
    #[cfg(test)]
    pub(super) fn explained(&self) -> Self {
        let text = format!("explain query plan {}", self.sqlite);
        Self { sqlite: Box::leak(text.into_boxed_str()), ..self.clone() }
    }

    pub(super) fn for_sqlite(&self) -> Bound<'_, sqlx::Sqlite> {
        bound(self.sqlite, &self.values)
    }

    pub(super) fn for_postgres(&self) -> Bound<'_, sqlx::Postgres> {
        bound(self.postgres, &self.values)
    }
}

/// A value of a type that means the same in both databases. A null keeps its type: PostgreSQL asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Flag(Option<bool>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(Some(flag))
    }
}

/// The driver's own form of a statement.
pub(super) type Bound<'q, DB> = sqlx::query::Query<'q, DB, <DB as Database>::Arguments>;

fn bound<'q, DB>(text: &'static str, values: &'q [Value]) -> Bound<'q, DB>
where
    DB: Database,
    Option<&'q str>: Encode<'q, DB> + Type<DB>,
    Option<i64>: Encode<'q, DB> + Type<DB>,
    Option<bool>: Encode<'q, DB> + Type<DB>,
{
    values.iter().fold(sqlx::query(text), |query, value| match value {
        Value::Text(text) => query.bind(text.as_deref()),
        Value::Integer(number) => query.bind(*number),
        Value::Flag(flag) => query.bind(*flag),
    })
}
