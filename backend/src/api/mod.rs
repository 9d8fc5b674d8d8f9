//! What all routes of the app share: who may ask, what an answer of failure looks like, how input is read, how
//! everything is described. A system declares its routes as a list of [`Route`]; it never touches the router.

mod access;
pub mod conditional;
mod entry;
mod input;
mod openapi;
mod page;
mod problem;
mod route;
mod words;

pub use self::access::{Caller, Policy};
pub use self::entry::{nowhere, other_method};
pub use self::input::{Body, Parameters, Path};
pub use self::openapi::show;
pub use self::page::{After, Limit, Page, PageQuery};
pub use self::problem::Problem;
pub use self::route::{Route, Table};
pub use self::words::{SearchQuery, Words};
