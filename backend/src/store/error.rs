//! What can go wrong with the database, told apart by what can be done about it. It decides nothing else.

use super::retry::Fault;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or it went away in the middle.
    #[error("the database cannot be reached")]
    Away(#[source] sqlx::Error),
    /// Others are in the way; nothing was changed.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// There is a row already that has the same in a column that must differ.
    #[error("another row has the same {column}")]
    Taken { column: String },
    /// It went away while it was told to commit.
    #[error("the database did not say whether the change was made")]
    Unknown(#[source] sqlx::Error),
    #[error("the database refused the statement")]
    Refused(#[source] sqlx::Error),
    #[error("the folder of the database cannot be used")]
    Folder(#[source] std::io::Error),
    #[error("the address of the database is not right")]
    Address(#[source] sqlx::Error),
    #[error("migration {version} has changed since it was applied")]
    Changed { version: i64 },
    #[error("the database was made by a later version: it has migration {version}")]
    Later { version: i64 },
}

impl StoreError {
    /// What kind of fault it is, if trying again may help.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Away(_) => Some(Fault::Away),
            Self::Busy(_) => Some(Fault::Busy),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(answer) => {
                let constraint = answer.constraint().zip(answer.table());
                kind(&answer.code().unwrap_or_default(), answer.message(), constraint)
            }
            // Writing into a connection whose other end is gone is told as a broken protocol, too.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Kind::Away,
            sqlx::Error::Configuration(_) => return Self::Address(error),
            _ => Kind::Other,
        };
        match kind {
            Kind::Away => Self::Away(error),
            Kind::Busy => Self::Busy(error),
            Kind::Taken(column) => Self::Taken { column },
            Kind::Other => Self::Refused(error),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Away,
    Busy,
    Taken(String),
    Other,
}

/// What the database's own code means: five characters from PostgreSQL, a number from SQLite.
/// `constraint` is the name of the one that was violated, and of its table, where PostgreSQL says so.
fn kind(code: &str, message: &str, constraint: Option<(&str, &str)>) -> Kind {
    match code {
        "23505" => Kind::Taken(constraint.map_or_else(String::new, |(name, table)| column_of(name, table))),
        // Two transactions that cannot both be (40001), or that wait for each other (40P01).
        "40001" | "40P01" => Kind::Busy,
        // It shuts down, crashed, or is not up yet (57P01 to 57P03); it has no connection left (53300).
        "57P01" | "57P02" | "57P03" | "53300" => Kind::Away,
        code if code.len() == 5 && code.starts_with("08") => Kind::Away,
        code => match code.parse::<u32>().ok().map(|number| (number, number & 0xff)) {
            // The lower byte is the primary code: 5 is BUSY, 6 is LOCKED. 2067 and 1555 are UNIQUE and PRIMARYKEY.
            Some((_, 5 | 6)) if code.len() != 5 => Kind::Busy,
            Some((1555 | 2067, _)) => Kind::Taken(column_in(message)),
            _ => Kind::Other,
        },
    }
}

/// `users_email_key` of the table `users` is about `email`.
fn column_of(constraint: &str, table: &str) -> String {
    let without_table = constraint.strip_prefix(table).and_then(|rest| rest.strip_prefix('_')).unwrap_or(constraint);
    without_table.strip_suffix("_key").unwrap_or(without_table).to_owned()
}

/// `UNIQUE constraint failed: a.x, a.y` is about `x_y`, as PostgreSQL would name the constraint.
fn column_in(message: &str) -> String {
    let columns = message.rsplit(": ").next().unwrap_or_default().split(", ");
    let names: Vec<_> = columns.map(|column| column.rsplit('.').next().unwrap_or(column)).collect();
    names.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(column: &str) -> Kind {
        Kind::Taken(column.to_owned())
    }

    #[test]
    fn codes_of_postgresql_say_what_can_be_done() {
        for (code, expected) in [
            ("57P01", Kind::Away),
            ("57P03", Kind::Away),
            ("08006", Kind::Away),
            ("53300", Kind::Away),
            ("40001", Kind::Busy),
            ("40P01", Kind::Busy),
            ("23503", Kind::Other),
            ("42601", Kind::Other),
            // In SQLite's numbering these would end in BUSY.
            ("00005", Kind::Other),
        ] {
            assert_eq!(kind(code, "", None), expected, "{code}");
        }
    }

    #[test]
    fn codes_of_sqlite_say_what_can_be_done() {
        for (code, expected) in [
            ("5", Kind::Busy),
            ("6", Kind::Busy),
            ("261", Kind::Busy),
            ("517", Kind::Busy),
            ("1", Kind::Other),
            ("787", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(kind(code, "", None), expected, "{code}");
        }
    }

    #[test]
    fn what_is_taken_is_named_alike_by_both() {
        assert_eq!(kind("2067", "UNIQUE constraint failed: users.email", None), taken("email"));
        assert_eq!(kind("2067", "UNIQUE constraint failed: items.a, items.b", None), taken("a_b"));
        assert_eq!(kind("1555", "UNIQUE constraint failed: users.id", None), taken("id"));
        assert_eq!(kind("23505", "", Some(("users_email_key", "users"))), taken("email"));
        assert_eq!(kind("23505", "", Some(("items_a_b_key", "items"))), taken("a_b"));
        assert_eq!(kind("23505", "", Some(("own_name", "items"))), taken("own_name"));
    }
}
