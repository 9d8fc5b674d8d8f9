//! `tollgate backend`: the app that stands behind the proxy in examples and tests.

use super::Failure;

pub fn run(arguments: tollgate_backend::Args) -> Result<(), Failure> {
    Ok(tollgate_backend::run(arguments)?)
}
