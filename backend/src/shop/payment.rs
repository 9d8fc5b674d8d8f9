//! Who takes the money. A provider decides whether a charge is good; what becomes of the order, the order decides.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::secret::sha256_hex;

const TOKEN_LETTERS_MAX: usize = 100;

/// What a provider has given the customer for his card; the app never sees the card.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "local-approve", min_length = 1, max_length = 100)]
pub struct PaymentToken(String);

impl TryFrom<String> for PaymentToken {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_token =
            !text.is_empty() && text.len() <= TOKEN_LETTERS_MAX && text.chars().all(|c| c.is_ascii_graphic());
        if is_token { Ok(Self(text)) } else { Err("must be the token of a payment, of 1 to 100 letters") }
    }
}

/// Whom the app charges by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Takes no money. What it answers follows from the charge alone, so it may be asked within a transaction and again
    /// when that is repeated. One that is asked over a network needs the order's name as its own idempotency key, and a
    /// place before the transaction.
    Local,
}

/// What is to be paid.
#[derive(Debug)]
pub struct Charge<'c> {
    /// The order; of two charges with one name, the provider makes one.
    pub order: &'c str,
    pub amount_minor: i64,
    pub token: &'c PaymentToken,
}

/// That it is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub provider: &'static str,
    /// What the provider calls it.
    pub reference: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    #[error("the provider refuses the payment")]
    Refused,
    #[error("the amount is above the limit of the token")]
    AboveLimit,
    #[error("the provider does not know the token")]
    UnknownToken,
}

impl Provider {
    pub fn charge(self, charge: &Charge<'_>) -> Result<Receipt, Declined> {
        match self {
            Self::Local => local(charge),
        }
    }
}

/// `local-approve` pays everything, `local-limit-N` up to N hundredths, `local-decline` nothing.
fn local(charge: &Charge<'_>) -> Result<Receipt, Declined> {
    let PaymentToken(token) = charge.token;
    let limit_minor = match token.strip_prefix("local-").ok_or(Declined::UnknownToken)? {
        "approve" => i64::MAX,
        "decline" => return Err(Declined::Refused),
        limit => limit.strip_prefix("limit-").and_then(|limit| limit.parse().ok()).ok_or(Declined::UnknownToken)?,
    };
    if charge.amount_minor > limit_minor {
        return Err(Declined::AboveLimit);
    }
    let digest = sha256_hex(format!("{}:{}", charge.order, charge.amount_minor).as_bytes());
    let reference = format!("local-{}", digest.get(..16).unwrap_or_default());
    Ok(Receipt { provider: "local", reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_provider_answers_by_the_charge_alone() {
        let check = |token: &str, amount_minor: i64, declined: Option<Declined>| {
            let token = PaymentToken::try_from(token.to_owned()).unwrap();
            let charge = Charge { order: "o", amount_minor, token: &token };
            let outcome = Provider::Local.charge(&charge);
            assert_eq!(outcome.as_ref().err(), declined.as_ref(), "{token:?} {amount_minor}");
            assert_eq!(outcome, Provider::Local.charge(&charge));
        };
        check("local-approve", 1, None);
        check("local-approve", i64::MAX, None);
        check("local-decline", 1, Some(Declined::Refused));
        check("local-limit-500", 500, None);
        check("local-limit-500", 501, Some(Declined::AboveLimit));
        check("local-limit-", 1, Some(Declined::UnknownToken));
        check("local-limit-x", 1, Some(Declined::UnknownToken));
        check("visa", 1, Some(Declined::UnknownToken));
    }

    #[test]
    fn charges_of_different_orders_have_different_names() {
        let token = PaymentToken::try_from("local-approve".to_owned()).unwrap();
        let reference = |order| Provider::Local.charge(&Charge { order, amount_minor: 1, token: &token });
        assert_ne!(reference("a"), reference("b"));
    }
}
