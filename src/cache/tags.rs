//! TEMPORARY
use http::HeaderMap;
#[derive(Debug, Clone)]
pub struct Tag;
pub fn of_response(_: &HeaderMap) -> Box<[Tag]> {
    Box::new([])
}
