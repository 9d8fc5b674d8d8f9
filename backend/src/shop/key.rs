//! Decides what to do with a request that may have come before, by its `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header). It neither stores nor waits.

use std::time::Duration;

use axum::http::HeaderMap;

use super::milliseconds;

const FIELD: &str = "idempotency-key";
const LETTERS_MAX: usize = 128;

/// After this a repeat takes over what nobody has finished: whoever claimed it may have died. Should he live after all, he
/// finds his claim gone before he changes anything.
const CLAIM_MAX: Duration = Duration::from_secs(5);
/// Answers are kept for so long.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a client calls one request, however often it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The field is a String of RFC 9651, and most clients leave the quotes out. Both are one name.
    pub fn of(fields: &HeaderMap) -> Result<Self, &'static str> {
        let expected = "must be a text of 1 to 128 letters, once";
        let mut values = fields.get_all(FIELD).iter();
        let value = values.next().ok_or("is missing; give each order a name of its own")?;
        if values.next().is_some() {
            return Err(expected);
        }
        let text = value.to_str().map_err(|_not_ascii| expected)?.trim();
        let name = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let is_name = |letter: char| letter.is_ascii_graphic() && letter != '"' && letter != '\\';
        if name.is_empty() || name.len() > LETTERS_MAX || !name.chars().all(is_name) {
            return Err(expected);
        }
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request that wants to be carried out.
#[derive(Debug)]
pub struct Claim {
    pub user: String,
    pub key: IdempotencyKey,
    /// Of what is asked for.
    pub digest: String,
    /// Of this very request; its repeats have others.
    pub id: String,
    pub at_ms: i64,
}

impl Claim {
    /// Claims of this time and before have run out.
    pub fn over_ms(&self) -> i64 {
        self.at_ms - milliseconds(CLAIM_MAX)
    }
}

/// What is remembered under a key.
#[derive(Debug, Clone)]
pub struct Kept {
    pub digest: String,
    pub claim: String,
    pub answer: Option<Answer>,
}

/// The answer to a request that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub order: String,
    /// The order as it was when it was made.
    pub json: String,
    /// The groups whose members the edge must not show any more (RFC 9875). They come with each repeat: the first answer
    /// may not have reached the edge.
    pub invalidated: String,
}

/// How a request stands to what is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is to be carried out, by nobody else.
    Ours,
    /// It was carried out; this was the answer.
    Answered(Answer),
    /// Another carries it out at this moment.
    UnderWay,
    /// The key stands for another request.
    OfAnother,
}

impl Kept {
    pub fn standing(self, claim: &Claim) -> Standing {
        match self.answer {
            _ if self.digest != claim.digest => Standing::OfAnother,
            Some(answer) => Standing::Answered(answer),
            None if self.claim == claim.id => Standing::Ours,
            None => Standing::UnderWay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_text() {
        let check = |values: &[&str], expected: Option<&str>| {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(FIELD, value.parse().unwrap());
            }
            let key = IdempotencyKey::of(&fields).ok();
            assert_eq!(key.as_ref().map(IdempotencyKey::as_str), expected, "{values:?}");
        };
        check(&["8e03978e-40d5"], Some("8e03978e-40d5"));
        check(&["\"8e03978e-40d5\""], Some("8e03978e-40d5"));
        check(&[&"k".repeat(128)], Some(&"k".repeat(128)));
        for wrong in [&[][..], &[""], &["\"\""], &["a b"], &["a\"b"], &["a\\b"], &["\"a"], &["a", "b"], &["größe"]] {
            check(wrong, None);
        }
        check(&[&"k".repeat(129)], None);
    }

    #[test]
    fn a_request_that_came_before_is_not_carried_out_again() {
        let answer = || Answer { order: "o".to_owned(), json: "{}".to_owned(), invalidated: String::new() };
        let check = |digest: &str, claim: &str, answer: Option<Answer>, expected: Standing| {
            let ours = Claim {
                user: "ada".to_owned(),
                key: IdempotencyKey("k".to_owned()),
                digest: "d".to_owned(),
                id: "c".to_owned(),
                at_ms: 0,
            };
            let kept = Kept { digest: digest.to_owned(), claim: claim.to_owned(), answer };
            assert_eq!(kept.clone().standing(&ours), expected, "{kept:?}");
        };
        check("d", "c", None, Standing::Ours);
        check("d", "x", None, Standing::UnderWay);
        check("d", "c", Some(answer()), Standing::Answered(answer()));
        check("d", "x", Some(answer()), Standing::Answered(answer()));
        check("x", "x", Some(answer()), Standing::OfAnother);
        check("x", "x", None, Standing::OfAnother);
    }
}
