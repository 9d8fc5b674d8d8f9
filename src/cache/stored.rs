//! A response as the cache has it, whether all of it is here or the rest is still on its way.

use std::borrow::Borrow;
use std::slice;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::coded::Forms;
use super::key::Key;
use super::policy::Terms;
use super::tags::Tags;
use super::vary::{self, Selecting};
use crate::body::{Body, Growing};

/// A response that may be used for many requests.
///
/// Of a million, none is at hand in the processor: so what an ordinary hit looks at comes first and lies together.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Stored {
    pub terms: Terms,
    pub content: Content,
    /// Its fields as lines of a head, but for the length; none if these do not hold whatever the edge adds.
    pub(super) lines: Option<Bytes>,
    pub status: StatusCode,
    pub(super) key: Key,
    /// Those that hold for every request, without `Age` and the fields of a connection.
    pub fields: HeaderMap,
    /// When it came, or was last validated.
    pub received: SystemTime,
    /// For which other requests it is right.
    pub selecting: Arc<Selecting>,
    pub tags: Tags,
    /// Its entity tag was made here: the origin does not know it.
    pub has_own_tag: bool,
    pub(super) forms: Arc<Forms>,
}

impl Stored {
    /// The memory that it and its key hold in bytes, about. The names of its selecting fields and its tags are counted beside it.
    pub fn weight(&self) -> u64 {
        let fields: usize = self.fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        let pieces = match &self.content {
            Content::Whole(whole) => whole.length() + size_of_val(whole.pieces()) as u64,
            Content::Growing(_) => 0,
        };
        let key: &[u8] = self.key.borrow();
        (key.len() + fields + self.lines.as_ref().map_or(0, Bytes::len)) as u64 + pieces
    }

    /// As it came.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(self.content.body());
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.fields);
        response
    }

    /// Whether it is right for a request.
    pub fn is_for(&self, request: &HeaderMap) -> bool {
        vary::matches(&self.selecting, request)
    }

    /// Under which those line up who ask for another variant of it, and for the same.
    pub fn variant_key(&self, key: &[u8], request: &HeaderMap) -> Vec<u8> {
        let mut variant = key.to_vec();
        vary::write(&self.selecting, request, &mut variant);
        variant
    }
}

#[derive(Debug, Clone)]
pub enum Content {
    Whole(Whole),
    /// It is being received.
    Growing(Arc<Growing>),
}

/// Content in a few large pieces.
#[derive(Debug, Clone)]
pub struct Whole {
    pieces: Pieces,
    length: u64,
}

#[derive(Debug, Clone)]
enum Pieces {
    One(Bytes),
    Several(Arc<[Bytes]>),
}

impl From<Bytes> for Whole {
    fn from(all: Bytes) -> Self {
        Self { length: all.len() as u64, pieces: Pieces::One(all) }
    }
}

impl Whole {
    pub fn new(pieces: Vec<Bytes>) -> Self {
        match <[Bytes; 1]>::try_from(pieces) {
            Ok([all]) => all.into(),
            Err(pieces) => {
                let length = pieces.iter().map(|piece| piece.len() as u64).sum();
                Self { length, pieces: Pieces::Several(pieces.into()) }
            }
        }
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn pieces(&self) -> &[Bytes] {
        match &self.pieces {
            Pieces::One(all) => slice::from_ref(all),
            Pieces::Several(pieces) => pieces,
        }
    }

    /// The bytes from `first` up to `end`, without copying them.
    fn slices(&self, first: u64, end: u64) -> impl Iterator<Item = Bytes> + '_ {
        let mut start = 0;
        self.pieces().iter().filter_map(move |piece| {
            let piece_start = start;
            start += piece.len() as u64;
            let from = usize::try_from(first.saturating_sub(piece_start)).ok()?.min(piece.len());
            let to = usize::try_from(end.saturating_sub(piece_start)).unwrap_or(usize::MAX).min(piece.len());
            (from < to).then(|| piece.slice(from..to))
        })
    }
}

impl Content {
    /// None as long as nobody knows.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(whole) => Some(whole.length()),
            Self::Growing(growing) => growing.length(),
        }
    }

    pub fn body(&self) -> Body {
        match self {
            Self::Whole(whole) => match whole.pieces() {
                // The usual case, and no list is made for it.
                [all] => Body::whole(all.clone()),
                pieces => Body::pieces(pieces.iter().cloned()),
            },
            Self::Growing(growing) => Body::reading(growing.reader(0, u64::MAX)),
        }
    }

    /// The bytes from `first` up to `end`.
    pub fn part(&self, first: u64, end: u64) -> Body {
        match self {
            Self::Whole(whole) => Body::pieces(whole.slices(first, end)),
            Self::Growing(growing) => Body::reading(growing.reader(first, end)),
        }
    }

    /// The same as pieces, if all of it is here.
    pub fn slices(&self, first: u64, end: u64) -> Option<Vec<Bytes>> {
        match self {
            Self::Whole(whole) => Some(whole.slices(first, end).collect()),
            Self::Growing(_) => None,
        }
    }
}

#[cfg(test)]
impl Stored {
    /// A response that is fresh for a minute, to a request without fields.
    pub fn of_body(body: &[u8]) -> Arc<Self> {
        Self::under(&Key::from(&b""[..]), body)
    }

    pub fn under(key: &Key, body: &[u8]) -> Arc<Self> {
        use http::header::CACHE_CONTROL;
        use http::{HeaderValue, Method};

        use super::memory::Memory;
        use super::policy::{Exchanged, Rules, TargetUri, Times, terms};
        use super::prepared::{Laid, laid_out};
        use crate::header::Scheme;
        use crate::header::authority::Authority;

        let fields = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("max-age=60"))]);
        let (status, received, now) = (StatusCode::OK, SystemTime::UNIX_EPOCH, crate::clock::now().into_std());
        let authority = Authority::from_parts("localhost", None);
        let target = TargetUri { scheme: Scheme::Http, authority: &authority, path: "/", query: None };
        let request = &HeaderMap::new();
        let exchanged = Exchanged { method: &Method::GET, target: &target, request, status, response: &fields };
        let times = Times { asked: now, answered: now, clock: received };
        let terms = terms(&exchanged, &Rules::default(), times).expect("it may be stored");
        let selecting = Arc::new(Selecting::of(&fields, request).expect("it has no `Vary`"));
        let content = Content::Whole(Whole::new(vec![Bytes::copy_from_slice(body)]));
        let Laid { key, lines, content } = laid_out(key, status, &fields, content);
        Arc::new(Self {
            key,
            status,
            fields,
            content,
            terms,
            received,
            selecting,
            tags: Tags::default(),
            has_own_tag: false,
            forms: Forms::new(Memory::new(1024), 0),
            lines,
        })
    }

    pub fn body(&self) -> Bytes {
        match &self.content {
            Content::Whole(whole) => whole.pieces().concat().into(),
            Content::Growing(_) => panic!("it is still growing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With the counts of references before it, which are 16 bytes.
    #[test]
    fn what_an_ordinary_hit_looks_at_is_in_three_lines() {
        let end = 16 + std::mem::offset_of!(Stored, status) + size_of::<StatusCode>();
        assert!(end <= 3 * 64, "{end}");
    }

    proptest! {
        #[test]
        fn a_part_is_what_lies_between_its_ends(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            first in 0_u64..60,
            length in 0_u64..60,
        ) {
            let all = pieces.concat();
            let whole = Whole::new(pieces.into_iter().map(Bytes::from).collect());
            let end = first + length;
            let expected = &all[(first as usize).min(all.len())..(end as usize).min(all.len())];
            prop_assert_eq!(whole.length(), all.len() as u64);
            prop_assert_eq!(whole.slices(first, end).collect::<Vec<_>>().concat(), expected);
        }
    }
}
