//! The request as it goes upstream, made of the one that came.

use http::header::CONTENT_LENGTH;
use http::{Request, Version};

use super::arrival::SentOn;
use super::{Exchange, Passing, Unread};
use crate::balance::Asker;
use crate::body::Body;
use crate::config::UpstreamProtocol;
use crate::error::Reason;
use crate::header::etag;
use crate::header::hop_by_hop::{self, Trailers, Upgrade};
use crate::header::hop_fields::HopFields;
use crate::pace::Terms;
use crate::record::Record;
use crate::snapshot::{Pass, Route};

/// A request as it goes upstream.
pub struct Outgoing {
    pub request: Request<Body>,
    /// What goes with its head beside the map; None if that has all of it.
    pub beside: Option<HopFields>,
}

impl Exchange<'_> {
    /// The request as it goes upstream.
    pub(super) async fn outgoing(
        &self,
        request: Unread<'_>,
        passing: &Passing<'_>,
        record: &mut Record,
    ) -> Result<Outgoing, Reason> {
        let SentOn { request_id, beside } = self.arrival().send_on(request, passing)?;
        record.request_id = Some(request_id);
        if passing.pass.upstream.pool.chooses_by_client() {
            request.extensions_mut().insert(Asker(passing.client.address));
        }
        Ok(Outgoing { request: self.take_body(request, passing, record).await?, beside })
    }

    /// Reads ahead what a slow client would hold an endpoint with; streams pass as they come.
    async fn take_body(
        &self,
        request: Unread<'_>,
        &Passing { route, pass, ref upgrade, .. }: &Passing<'_>,
        record: &mut Record,
    ) -> Result<Request<Body>, Reason> {
        let (mut parts, unread) = std::mem::take(request).into_parts();
        let Some(source) = unread else { return Ok(Request::from_parts(parts, Body::empty())) };
        let known_size = source.size_hint().exact();
        let mut source = source.at_most(route.config.body_max).guarded(record.count_received());
        // Over HTTP/1 the connection keeps this limit.
        if !record.is_h1() {
            let client = &self.snapshot.config.client;
            let terms = Terms { silence: client.body_timeout, rate_min: client.rate_min };
            source = source.paced(self.worker.sweep.deadline(), terms, record.answered()).lingering();
        }
        let ahead = known_size.is_some() && upgrade.is_none() && pass.buffer.request > 0;
        let body = if ahead { source.buffer(pass.buffer.request).await? } else { source.into_body() };
        if body.has_trailers() && pass.upstream.config().protocol == UpstreamProtocol::H1 {
            parts.headers.remove(CONTENT_LENGTH);
        }
        Ok(Request::from_parts(parts, body))
    }
}

/// Takes off a request what ends here; says which upgrade it asks for.
pub fn receive_request<B>(request: &mut Request<B>, route: &Route, pass: &Pass) -> Option<Upgrade> {
    let may_upgrade = request.version() == Version::HTTP_11 && pass.upstream.config().protocol == UpstreamProtocol::H1;
    let fields = request.headers_mut();
    if route.config.compress.is_some() {
        etag::take_off_marks(fields);
    }
    hop_by_hop::remove(fields, Trailers::Forward).filter(|_| may_upgrade)
}
