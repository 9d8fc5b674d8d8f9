//! The page at `/`: which replica answered, and where to go from here.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{Html, IntoResponse};

use crate::App;

const PAGE: &str = include_str!("page.html");

pub async fn index(State(app): State<Arc<App>>) -> impl IntoResponse {
    let page = PAGE.replace("{name}", &escape(&app.replica.name)).replace("{pid}", &app.replica.pid.to_string());
    // The page shows who answered now; a stored copy would tell of the past.
    ([(CACHE_CONTROL, "no-store")], Html(page))
}

/// Text as HTML content: a host name may hold any byte.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_stays_text() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
