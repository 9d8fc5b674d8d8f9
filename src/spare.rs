//! What a worker keeps at hand for the next message, to either side: the buffer that was read into last, which is
//! in the cache of its core, one to write heads into, and maps for fields that have grown already.

use std::cell::RefCell;

use bytes::BytesMut;
use http::HeaderMap;

/// As many responses may be read at once before a buffer is made anew.
const BUFFERS_MAX: usize = 32;
/// As many are kept through a time without traffic.
const BUFFERS_MIN: usize = 2;
/// A map that has grown beyond this is not kept.
const FIELDS_MAX: usize = 64;
/// A request and its response have one each.
const MAPS_MAX: usize = 32;
/// Lines of an endpoint, and the head that they go into.
const TEXTS_MAX: usize = 4;
const TEXT_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static FIELDS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
    static TEXTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The buffer that was left last, or a new one; there is nothing in it.
pub fn buffer() -> BytesMut {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

pub fn keep_buffer(mut buffer: BytesMut) {
    buffer.clear();
    // What was taken from its beginning belongs to it again; there the cache of this core is warm.
    let _is_larger = buffer.try_reclaim(buffer.capacity() + 1);
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    });
}

/// Called now and then: what has not been used lately goes.
pub fn shrink() {
    BUFFERS.with_borrow_mut(|buffers| {
        let surplus = buffers.len().saturating_sub(BUFFERS_MIN).div_ceil(2);
        // The last ones are those in use.
        buffers.drain(..surplus);
    });
}

/// An empty map.
pub fn fields() -> HeaderMap {
    FIELDS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps the map of a message that is over.
pub fn keep_fields(mut fields: HeaderMap) {
    if (1..=FIELDS_MAX).contains(&fields.capacity()) {
        fields.clear();
        FIELDS.with_borrow_mut(|maps| {
            if maps.len() < MAPS_MAX {
                maps.push(fields);
            }
        });
    }
}

/// An empty buffer to write into; there are few, for they are seldom kept for longer than one write.
pub fn text() -> Vec<u8> {
    TEXTS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

pub fn keep_text(mut text: Vec<u8>) {
    if (1..=TEXT_BYTES_MAX).contains(&text.capacity()) {
        text.clear();
        TEXTS.with_borrow_mut(|texts| {
            if texts.len() < TEXTS_MAX {
                texts.push(text);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_is_the_next_and_the_surplus_goes() {
        for capacity in 1..=BUFFERS_MAX + 1 {
            let mut used = BytesMut::with_capacity(capacity * 1000);
            used.extend_from_slice(b"old");
            keep_buffer(used);
        }
        let last = buffer();
        assert!(last.is_empty());
        assert_eq!(last.capacity(), BUFFERS_MAX * 1000, "one too many was dropped");
        for _ in 0..10 {
            shrink();
        }
        let left: Vec<_> = (0..BUFFERS_MIN).map(|_| buffer().capacity()).collect();
        assert_eq!(left, [(BUFFERS_MAX - 1) * 1000, (BUFFERS_MAX - 2) * 1000]);
        assert_eq!(buffer().capacity(), 0);
    }

    #[test]
    fn a_kept_map_is_empty_and_has_room() {
        let used = HeaderMap::from_iter([("a".parse().unwrap(), "b".parse().unwrap())]);
        let capacity = used.capacity();
        keep_fields(used);
        let next = fields();
        assert!(next.is_empty() && next.capacity() == capacity);
        assert_eq!(fields().capacity(), 0);
    }

    #[test]
    fn a_kept_text_is_empty_and_has_room() {
        keep_text(b"some".to_vec());
        assert!(text().is_empty() && text().capacity() == 0);
        keep_text(vec![b'x'; TEXT_BYTES_MAX + 1]);
        assert_eq!(text().capacity(), 0);
    }
}
