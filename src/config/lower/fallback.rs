//! `fallback` of a route.

use bytes::Bytes;
use http::HeaderValue;

use crate::config::Fallback;
use crate::config::diagnostics::Diagnostic;
use crate::config::file;
use crate::config::section::Setting;

use super::Lowering;

/// It is kept in memory for each generation of the configuration.
const PAGE_BYTES_MAX: usize = 1 << 20;

impl Lowering<'_> {
    pub(super) fn fallback(&mut self, setting: &Setting<file::FallbackPage>) -> Option<Fallback> {
        let page = &setting.value;
        if let Some(status) = page.status.as_ref().filter(|status| matches!(status.value.as_u16(), 204 | 205 | 304)) {
            let message = format!("a response of {} has no content", status.value.as_u16());
            self.report(Diagnostic::error(status.origin, message).label("expected the status of a page, such as 503"));
        }
        let (origin, body, usual_type) = match (&page.text, &page.file) {
            (Some(text), None) => (text.origin, text.value.clone(), "text/plain; charset=utf-8"),
            (None, Some(file)) => (file.origin, self.readable(file).1?, "text/html; charset=utf-8"),
            (Some(text), Some(file)) => {
                let error = Diagnostic::error(file.origin, "this page has both `text` and `file`").label("and here");
                self.report(error.also(text.origin, "here").help("keep one of them"));
                return None;
            }
            (None, None) => {
                if !setting.tainted {
                    let error = Diagnostic::error(setting.origin, "this page has no content");
                    self.report(error.label("expected `text` or `file`"));
                }
                return None;
            }
        };
        if body.len() > PAGE_BYTES_MAX {
            self.report(Diagnostic::error(origin, "a page of more than 1 MiB").label("at most \"1MiB\""));
        }
        let own_type = page.content_type.as_ref().map(|value| value.value.0.clone());
        let content_type = own_type.unwrap_or_else(|| HeaderValue::from_static(usual_type));
        Some(Fallback {
            status: page.status.as_ref().map(|status| status.value),
            body: Bytes::from(body),
            content_type,
        })
    }
}
