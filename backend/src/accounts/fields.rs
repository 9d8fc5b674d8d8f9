//! What people are known by. A value of these types is well formed and in the one spelling by which it is compared.
//! Whether it belongs to someone is not known here.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const EMAIL_BYTES_MAX: usize = 254;
const USER_NAME_LETTERS: std::ops::RangeInclusive<usize> = 3..=32;
const DISPLAY_NAME_LETTERS_MAX: usize = 80;
/// E.164: at most 15 digits with the country's.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;
const PASSWORD_LETTERS_MIN: usize = 10;
/// More is no safer, and hashing has to read it.
const PASSWORD_BYTES_MAX: usize = 256;

/// In lower case as a whole. The part before the `@` could tell cases apart, and no provider lets it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, format = "email", example = "ada@example.com", max_length = 254)]
pub struct Email(String);

/// Letters, digits, `.`, `_` and `-`, beginning with a letter, so that it is never a number or an address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "ada", min_length = 3, max_length = 32)]
pub struct UserName(String);

/// `+` and digits (E.164).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "+41446681800")]
pub struct Phone(String);

/// What others see.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "Ada Lovelace", min_length = 1, max_length = 80)]
pub struct DisplayName(String);

/// A password that may be set. It is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, format = "password", min_length = 10)]
pub struct NewPassword(String);

/// What someone signs in with. Whatever else was sent belongs to nobody.
#[derive(Debug, PartialEq, Eq)]
pub enum Login {
    Email(Email),
    UserName(UserName),
    Phone(Phone),
}

impl Login {
    pub fn parse(text: &str) -> Option<Self> {
        let owned = text.trim().to_owned();
        if text.contains('@') {
            Email::try_from(owned).ok().map(Self::Email)
        } else if text.contains(|letter: char| letter.is_ascii_alphabetic()) {
            UserName::try_from(owned).ok().map(Self::UserName)
        } else {
            Phone::try_from(owned).ok().map(Self::Phone)
        }
    }
}

impl TryFrom<String> for Email {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "must be an e-mail address, such as ada@example.com";
        let (local, domain) = text.rsplit_once('@').ok_or(expected)?;
        let is_local = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(letter);
        let is_label = |label: &str| {
            let is_inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(is_inside)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_dotted = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
        let is_well_formed = (1..=64).contains(&local.len())
            && local.chars().all(is_local)
            && is_dotted
            && domain.contains('.')
            && domain.split('.').all(is_label)
            && text.len() <= EMAIL_BYTES_MAX;
        if is_well_formed { Ok(Self(text.to_ascii_lowercase())) } else { Err(expected) }
    }
}

impl TryFrom<String> for UserName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_inside = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if begins && USER_NAME_LETTERS.contains(&text.len()) && text.chars().all(is_inside) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err("must be 3 to 32 letters, digits, '.', '_' or '-', beginning with a letter")
        }
    }
}

impl TryFrom<String> for Phone {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "must be a phone number with its country's code, such as +41 44 668 18 00";
        let rest = text.trim().strip_prefix('+').ok_or(expected)?;
        let digits: String = rest.chars().filter(|letter| !" -().".contains(*letter)).collect();
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        if is_number && PHONE_DIGITS.contains(&digits.len()) { Ok(Self(format!("+{digits}"))) } else { Err(expected) }
    }
}

impl TryFrom<String> for DisplayName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = text.trim();
        if name.is_empty() || name.chars().count() > DISPLAY_NAME_LETTERS_MAX || name.contains(char::is_control) {
            return Err("must be 1 to 80 letters in one line");
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for NewPassword {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.chars().count() < PASSWORD_LETTERS_MIN {
            return Err("must have at least 10 letters");
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return Err("must have at most 256 bytes");
        }
        Ok(Self(text))
    }
}

/// A password as it was typed, to be compared.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, format = "password")]
pub struct TypedPassword(String);

impl TryFrom<String> for TypedPassword {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Also those that could not be set today: rules change, and old accounts stay.
        if text.len() > PASSWORD_BYTES_MAX { Err("must have at most 256 bytes") } else { Ok(Self(text)) }
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text!(Email, UserName, Phone, DisplayName, NewPassword, TypedPassword);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: TryFrom<String>>(text: &str, expected: Option<&str>, spelled: fn(&T) -> &str) {
        let parsed = T::try_from(text.to_owned()).ok();
        assert_eq!(parsed.as_ref().map(spelled), expected, "{text}");
    }

    #[test]
    fn email_addresses_have_one_spelling() {
        let check = |text: &str, expected: Option<&str>| check(text, expected, Email::as_str);
        check("Ada@Example.COM", Some("ada@example.com"));
        check("a+b.c@x.y.org", Some("a+b.c@x.y.org"));
        for wrong in
            ["", "a", "@b.c", "a@", "a@b", "a@b..c", "a@-b.c", ".a@b.c", "a..b@c.d", "a b@c.d", "a@b.c\n", "ä@b.c"]
        {
            check(wrong, None);
        }
        check(&format!("{}@b.c", "a".repeat(65)), None);
        check(&format!("a@{}c", "b.".repeat(130)), None);
    }

    #[test]
    fn user_names_are_neither_numbers_nor_addresses() {
        let check = |text: &str, expected: Option<&str>| check(text, expected, UserName::as_str);
        check("Ada_L.1-2", Some("ada_l.1-2"));
        for wrong in ["", "ab", "1ab", "a b", "a@b", "+ab", "ädä", &"a".repeat(33)] {
            check(wrong, None);
        }
    }

    #[test]
    fn phone_numbers_have_one_spelling() {
        let check = |text: &str, expected: Option<&str>| check(text, expected, Phone::as_str);
        check("+41 (44) 668-18.00", Some("+41446681800"));
        for wrong in ["", "0446681800", "+0446681800", "+4144668", "+1234567890123456", "+41x446681800", "+"] {
            check(wrong, None);
        }
    }

    #[test]
    fn names_and_passwords_have_their_lengths() {
        let name = |text: &str, expected: Option<&str>| check(text, expected, DisplayName::as_str);
        name(" Ada ", Some("Ada"));
        name(&"ä".repeat(80), Some(&"ä".repeat(80)));
        name(&"ä".repeat(81), None);
        name("  ", None);
        name("a\nb", None);
        let password = |text: &str, expected: Option<&str>| check(text, expected, NewPassword::as_str);
        password("ten letter", Some("ten letter"));
        password("nine lett", None);
        password(&"a".repeat(257), None);
    }

    #[test]
    fn a_login_is_told_apart_by_its_letters() {
        let of = |text: &str| Login::parse(text);
        assert!(matches!(of("ada@example.com"), Some(Login::Email(_))));
        assert!(matches!(of("+41 44 668 18 00"), Some(Login::Phone(_))));
        assert!(matches!(of(" Ada "), Some(Login::UserName(_))));
        assert_eq!(of("1"), None);
        assert_eq!(of(""), None);
        assert_eq!(of("' or 1=1 --"), None);
    }
}
