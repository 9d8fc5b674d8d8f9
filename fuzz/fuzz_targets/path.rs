//! The canonical path is final, rooted, visible ASCII and free of dot segments, whatever came in.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use tollgate::path::canonical;

fuzz_target!(|raw: &str| {
    let Ok(path) = canonical(raw) else { return };
    assert!(path.starts_with('/'));
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#".contains(&byte)));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    assert!(!path.contains("%00"));
    assert!(matches!(canonical(&path), Ok(Cow::Borrowed(same)) if same == path));
});
