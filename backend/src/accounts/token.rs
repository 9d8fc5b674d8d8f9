//! Access tokens: JSON web tokens (RFC 7519, RFC 9068) that only this app makes and reads. What a token says is
//! believed if it is signed by the one algorithm and key, says all there is to say, and is in its time. Whether it was
//! revoked is not known here.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::key::Key;

const ALGORITHM: Algorithm = Algorithm::HS256;
/// RFC 9068 §2.1: no other kind of token of the same key is taken for one.
const TYPE: &str = "at+jwt";
const ISSUER: &str = "tollgate-backend";
const AUDIENCE: &str = "tollgate-api";
/// It is short because a token that was stolen is good for so long.
pub const LIFETIME_S: i64 = 15 * 60;
/// Nothing that this app signs comes near it.
const TOKEN_BYTES_MAX: usize = 2048;

/// Every claim there is. A token with fewer, more or other ones is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    iss: String,
    aud: String,
    /// The user.
    pub sub: String,
    /// The session that it was given out for.
    pub sid: String,
    /// The token itself.
    pub jti: String,
    iat: i64,
    nbf: i64,
    pub exp: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the access token is not one of this app's")]
    Wrong,
    #[error("the time of the access token is over")]
    Over,
    #[error("the time of the access token has not come")]
    Early,
}

#[derive(Clone)]
pub struct Tokens {
    signing: EncodingKey,
    reading: DecodingKey,
    rules: Validation,
}

impl Claims {
    pub fn new(user: &str, session: &str, id: &str, now_s: i64) -> Self {
        Self {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_owned(),
            sid: session.to_owned(),
            jti: id.to_owned(),
            iat: now_s,
            nbf: now_s,
            exp: now_s + LIFETIME_S,
        }
    }
}

impl Tokens {
    pub fn new(key: &Key) -> Self {
        let mut rules = Validation::new(ALGORITHM);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["iss", "aud", "sub", "nbf", "exp"]);
        // The time is an argument here.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        Self { signing: EncodingKey::from_secret(key.bytes()), reading: DecodingKey::from_secret(key.bytes()), rules }
    }

    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(ALGORITHM) };
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    pub fn read(&self, token: &str, now_s: i64) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Wrong);
        }
        let read =
            jsonwebtoken::decode::<Claims>(token, &self.reading, &self.rules).map_err(|_error| TokenError::Wrong)?;
        // What is critical to whoever made the token is not known here (RFC 7515 §4.1.11).
        if read.header.typ.as_deref() != Some(TYPE) || read.header.crit.is_some() {
            return Err(TokenError::Wrong);
        }
        let claims = read.claims;
        if now_s >= claims.exp {
            Err(TokenError::Over)
        } else if now_s < claims.nbf {
            Err(TokenError::Early)
        } else {
            Ok(claims)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const NOW: i64 = 1_700_000_000;

    fn tokens() -> Tokens {
        Tokens::new(&Key::new(KEY).unwrap())
    }

    fn claims() -> Value {
        serde_json::to_value(Claims::new("u1", "s1", "t1", NOW)).unwrap()
    }

    fn signed(header: &Header, claims: &Value, key: &str) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
    }

    fn header(algorithm: Algorithm) -> Header {
        Header { typ: Some(TYPE.to_owned()), ..Header::new(algorithm) }
    }

    #[test]
    fn a_token_is_good_in_its_time() {
        let tokens = tokens();
        let claims = Claims::new("u1", "s1", "t1", NOW);
        let token = tokens.sign(&claims).unwrap();
        for (now_s, expected) in [
            (NOW - 1, Err(TokenError::Early)),
            (NOW, Ok(claims.clone())),
            (NOW + LIFETIME_S - 1, Ok(claims)),
            (NOW + LIFETIME_S, Err(TokenError::Over)),
        ] {
            assert_eq!(tokens.read(&token, now_s), expected, "{now_s}");
        }
    }

    #[test]
    fn a_token_must_say_all_there_is_to_say_and_nothing_else() {
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            signed(&header(ALGORITHM), &claims, KEY)
        };
        let without = |name: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            signed(&header(ALGORITHM), &claims, KEY)
        };
        tokens().read(&with("sub", json!("u2")), NOW).unwrap();
        for name in ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"] {
            assert_eq!(tokens().read(&without(name), NOW), Err(TokenError::Wrong), "without {name}");
            assert_eq!(tokens().read(&with(name, json!({})), NOW), Err(TokenError::Wrong), "{name} of another type");
        }
        for (name, value) in [("iss", "other"), ("aud", "other"), ("admin", "true"), ("exp", "1800000000")] {
            assert_eq!(tokens().read(&with(name, json!(value)), NOW), Err(TokenError::Wrong), "{name} = {value}");
        }
    }

    #[test]
    fn a_token_of_another_make_is_none() {
        let plain = Header::new(ALGORITHM);
        let critical = Header { crit: Some(vec!["b65".to_owned()]), ..header(ALGORITHM) };
        let token = signed(&header(ALGORITHM), &claims(), KEY);
        let (head_and_claims, signature) = token.rsplit_once('.').unwrap();
        let (_, claims_alone) = head_and_claims.split_once('.').unwrap();
        for (what, token) in [
            ("another key", signed(&header(ALGORITHM), &claims(), "another key of the same length!!")),
            ("another algorithm", signed(&header(Algorithm::HS512), &claims(), KEY)),
            ("something critical", signed(&critical, &claims(), KEY)),
            ("another type", signed(&plain, &claims(), KEY)),
            ("no signature", format!("{head_and_claims}.")),
            // Its head says that the algorithm is "none".
            ("no algorithm", format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{claims_alone}.")),
            ("a signature of something else", format!("{claims_alone}.{claims_alone}.{signature}")),
            ("no token", "token".to_owned()),
            ("nothing", String::new()),
            ("too much", "a".repeat(1 << 20)),
        ] {
            assert_eq!(tokens().read(&token, NOW), Err(TokenError::Wrong), "{what}");
        }
    }
}
