//! No text makes the configuration panic, and every diagnostic can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::config::{Environment, parse};

fuzz_target!(|text: &str| {
    match parse("config.toml", text, &Environment::bare()) {
        // A token in clear is not shown, so it does not read back.
        Ok(_) if text.contains("token") => {}
        Ok(parsed) => {
            let shown = parsed.effective.to_string();
            assert!(parse("effective", &shown, &Environment::bare()).is_ok(), "{shown}");
        }
        Err(found) => {
            assert!(!found.is_empty());
            let _ = (found.render(true), found.to_json(), found.to_string());
        }
    }
});
