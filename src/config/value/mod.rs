//! The types that single values of the file can have, and how each is read.

mod cache;
mod http;
mod limit;
mod media;
mod net;
mod number;
mod plain;
mod replacement;
mod telemetry;
mod word;

pub use self::cache::{HostText, PageText, ParameterText};
pub use self::http::{FieldValue, HostPolicyText, Pattern, StatusRanges, UrlPath, field_name};
pub use self::net::target;
pub use self::number::{Count, Limit, OrFalse, Percent, Rate, Size};
pub use self::plain::{FilePath, HttpsRedirect, SecretText};
pub use self::telemetry::{CollectorUrl, Share};
pub use self::word::{AlgorithmWord, Protocol, StatusPage};
